//! Whether a certificate is valid at this time, by the verifier that clients of rustls have.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::fmt_http_date;
use ringway::tls::rustls::client::WebPkiServerVerifier;
use ringway::tls::rustls::client::danger::ServerCertVerifier;
use ringway::tls::rustls::crypto::CryptoProvider;
use ringway::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use ringway::tls::rustls::{CertificateError, Error, RootCertStore};

/// What is said of a chain of which a certificate has expired, or is not valid yet; `None` if all are
/// valid now.
pub(super) fn why_not(
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Option<String> {
    let now = UnixTime::now();
    chain.iter().enumerate().find_map(|(number, certificate)| {
        let why = why_not_at(certificate, provider, now)?;
        Some(if number == 0 { why } else { format!("stands on one that {why}") })
    })
}

/// The verifier looks at the time before it looks at anything else that could be wrong with a certificate
/// that is its own authority, so every other verdict means that the time is right.
fn why_not_at(
    certificate: &CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = verifier.build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(certificate, &[], &name, &[], now) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(format!("expired on {}", date(not_after)))
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before, ..
        })) => Some(format!("is not valid before {}", date(not_before))),
        _ => None,
    }
}

fn date(time: UnixTime) -> String {
    fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use ringway::tls::crypto_provider;

    use super::*;

    /// Valid in the years from 2010 to 2019.
    fn made(is_ca: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2010, 1, 1), date_time_ymd(2020, 1, 1));
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_time_is_judged_of_servers_and_authorities() {
        const YEAR: u64 = 31_556_952;
        let provider = Arc::new(crypto_provider());
        for certificate in [made(false), made(true)] {
            let at = |year: u64| {
                let time = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * YEAR));
                why_not_at(&certificate, &provider, time)
            };
            let early = at(2005).unwrap();
            assert!(early.starts_with("is not valid before Fri, 01 Jan 2010 "), "{early}");
            assert_eq!(at(2015), None);
            assert_eq!(at(2025).unwrap(), "expired on Wed, 01 Jan 2020 00:00:00 GMT");
        }
    }

    #[test]
    fn a_chain_is_as_valid_as_its_weakest() {
        let provider = Arc::new(crypto_provider());
        let good = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let good = good.cert.der().clone();
        assert_eq!(why_not(std::slice::from_ref(&good), &provider), None);
        let why = why_not(&[good, made(true)], &provider).unwrap();
        assert!(why.starts_with("stands on one that expired on "), "{why}");
    }
}
