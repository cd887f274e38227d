//! Takes a handshake over a socket to its end.

use std::io::{self, IoSlice};

use ringway_runtime::net::{Half, TcpStream};

use super::{Carrier, Connection, Established, Need};
use crate::tls::error::{TlsError, TlsErrorKind};

/// Bytes that are thrown away so that the alert of a refused handshake is not lost to a reset.
const DISCARD_MAX: usize = 64 << 10;

/// Takes a handshake to its end. `carrier` may hold what was received already.
pub(crate) async fn run(
    stream: &TcpStream,
    mut connection: Connection,
    mut carrier: Carrier,
    server_name: Option<String>,
) -> Result<Established, TlsError> {
    let mut has_sent = false;
    loop {
        match connection.advance(&mut carrier) {
            Ok(Need::Send) => {
                let more = connection.has_tickets_left();
                send(stream, &mut carrier.outgoing, more).await?;
                has_sent = true;
            }
            Ok(Need::Receive) => {
                // The peer's answer takes a while: a receive would find nothing.
                if std::mem::take(&mut has_sent) {
                    stream.readable().await?;
                }
                receive(stream, &mut carrier).await?;
            }
            Ok(Need::Nothing) => break,
            Err(error) => {
                refuse(stream, &carrier.outgoing);
                return Err(TlsError::of_handshake(error, carrier.first()));
            }
        }
    }
    // Whatever rustls had to say is with the socket: tickets, too.
    send(stream, &mut carrier.outgoing, false).await?;
    let wrong = |error| TlsError::of_handshake(error, &[22, 3]);
    Ok(Established {
        agreed: connection.agreed(server_name).map_err(wrong)?,
        records: connection.into_records().map_err(wrong)?,
        ciphertext: carrier.take_rest(),
        plaintext: carrier.plaintext,
        closed_by_peer: carrier.closed_by_peer,
    })
}

/// Gives the socket all of it; with `more` it waits there for what follows, 200 ms at most.
async fn send(stream: &TcpStream, outgoing: &mut Vec<u8>, more: bool) -> Result<(), TlsError> {
    let mut sent = 0;
    while sent < outgoing.len() {
        match stream.try_send(&[IoSlice::new(&outgoing[sent..])], more) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.uncork();
                stream.writable().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    outgoing.clear();
    Ok(())
}

/// Receives at least one byte.
pub(crate) async fn receive(stream: &TcpStream, carrier: &mut Carrier) -> Result<(), TlsError> {
    loop {
        match stream.try_recv(carrier.room()?) {
            Ok(0) => return Err(TlsError::new(TlsErrorKind::Unfinished)),
            Ok(count) => {
                carrier.received(count);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells the peer why, as far as the socket takes it at once, and reads what is there so that it arrives:
/// closing a socket with unread bytes would reset it and lose the alert.
fn refuse(stream: &TcpStream, alert: &[u8]) {
    // The error of the handshake is the one to tell; what fails here adds nothing.
    let _ = stream.try_send(&[IoSlice::new(alert)], false);
    let _ = stream.shutdown(Half::Write);
    let mut discarded = 0;
    let mut scratch = [0; 4096];
    while discarded < DISCARD_MAX {
        match stream.try_recv(&mut scratch) {
            Ok(count) if count > 0 => discarded += count,
            Ok(_) | Err(_) => break,
        }
    }
}
