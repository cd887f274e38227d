//! Why there is no TLS with a server, in words that say what to do. Pure.

use std::error::Error;
use std::io;

use ringway::tls::rustls::{AlertDescription, CertificateError, Error as Rustls};
use ringway::tls::{TlsError, TlsErrorKind};

use super::outcome::Failure;

/// What a handshake or a session that failed means for an attempt.
pub(crate) fn failure(error: &TlsError) -> Failure {
    let lasting = match error.kind() {
        TlsErrorKind::Certificate(Rustls::InvalidCertificate(why)) => certificate(why),
        TlsErrorKind::Certificate(why) => format!("its certificate is refused: {why}"),
        TlsErrorKind::NotTls { looks_like_http: true } => {
            "it speaks plain HTTP on this port: write http://, or name the port of its https".into()
        }
        TlsErrorKind::NotTls { looks_like_http: false } => {
            "what listens on this port does not speak TLS: check the port".into()
        }
        TlsErrorKind::Incompatible(why) => {
            format!("it and this program have too little in common (TLS 1.2 and 1.3): {why}")
        }
        TlsErrorKind::Configuration(why) => format!("this TLS configuration cannot be used: {why}"),
        TlsErrorKind::AlertReceived(alert) => match alert_advice(*alert) {
            Some(advice) => advice.to_owned(),
            None => return Failure::Broken(error.to_string()),
        },
        TlsErrorKind::Io(_) | TlsErrorKind::TimedOut { .. } | TlsErrorKind::Unfinished => {
            return Failure::Unreachable(error.to_string());
        }
        _ => return Failure::Broken(error.to_string()),
    };
    Failure::NoTls(lasting)
}

/// What an error of a stream means, whatever the stream is made of.
pub(crate) fn of_stream(error: &io::Error) -> Failure {
    tls_within(error).map_or_else(|| Failure::Broken(error.to_string()), failure)
}

/// The error of TLS that stands behind another one.
pub(crate) fn tls_within<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        // An `io::Error` names the source of what it holds, and not what it holds.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = held.and_then(|held| held.downcast_ref::<TlsError>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn certificate(why: &CertificateError) -> String {
    use CertificateError as Why;
    match why {
        Why::Expired | Why::ExpiredContext { .. } => {
            format!(
                "its certificate has expired: it must be renewed, or the clock here is wrong ({why})"
            )
        }
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet: the clock here may be wrong ({why})")
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            format!("its certificate is for another name than the one in the URL: {why}")
        }
        Why::UnknownIssuer => "nobody who is trusted here has signed its certificate: name the \
             authority that has by --cacert FILE, or add it to those of the system"
            .into(),
        Why::Revoked => "its certificate was revoked".into(),
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            format!("its certificate is not one for servers: {why}")
        }
        why => format!("its certificate is refused: {why}"),
    }
}

/// What a server did not like of us; none if it is not about that.
fn alert_advice(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired => {
            "it wants a certificate of the client: give one by --cert FILE and --key FILE"
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            "it refuses the certificate of --cert: one that its authorities have signed is needed"
        }
        AlertDescription::CertificateExpired => "the certificate of --cert has expired",
        AlertDescription::CertificateRevoked => "the certificate of --cert was revoked",
        AlertDescription::UnsupportedCertificate => "it cannot use the certificate of --cert",
        AlertDescription::UnrecognisedName => "it does not know the name in the URL",
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3",
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "it and this program have no cipher in common, or it wants a certificate of the client"
        }
        _ => return None,
    })
}
