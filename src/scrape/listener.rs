//! The sockets that an endpoint listens on.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Listener;
use crate::error::StartError;

/// Connections that the system keeps until they are accepted: more than may be open, for when there is no room for a while.
const BACKLOG: i32 = 1024;

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
}

/// The file of a socket that we have made. It goes when the socket does.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Which file it was: by then another program may have put its own there.
    #[cfg(unix)]
    identity: Option<(u64, u64)>,
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Whoever binds there next replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Bound {
    /// The address, of a socket that has one.
    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(..) => None,
        }
    }
}

/// Binds everything that is asked for, or nothing.
pub(crate) fn bind(listeners: &[Listener]) -> Result<Vec<Bound>, StartError> {
    let mut bound = Vec::new();
    for listener in listeners {
        match listener {
            Listener::Tcp { host, port } => bound.push(Bound::Tcp(tcp(host, *port)?)),
            Listener::Unix(path) => bound.push(unix(path)?),
            Listener::Systemd => bound.extend(systemd()?),
        }
    }
    Ok(bound)
}

/// Binds the first of the addresses that the host stands for and that this machine has.
fn tcp(host: &str, port: u16) -> Result<TcpListener, StartError> {
    let unresolved = |source| StartError::Address { address: format!("{host}:{port}"), source };
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unresolved)?.collect();
    // A name for both families: what people type into curl and into scrape configurations is the older one.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    listen_at_first(&addresses).unwrap_or_else(|| Err(unresolved(io::Error::from(io::ErrorKind::NotFound))))
}

/// Nothing where there are no addresses.
fn listen_at_first(addresses: &[SocketAddr]) -> Option<Result<TcpListener, StartError>> {
    let mut last = None;
    // `[::]` alone is for both families, as it is for most servers. A name's addresses are each for their own.
    for address in addresses {
        match listen(*address) {
            Ok(listener) => return Some(Ok(listener)),
            Err(source) => {
                let is_taken = source.kind() == io::ErrorKind::AddrInUse;
                last = Some(Err(StartError::Bind { address: address.to_string(), source }));
                // At the next address some clients would find it, and others the program that is at this one.
                if is_taken {
                    break;
                }
            }
        }
    }
    last
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A program that starts again finds connections of the one before in the port. On Windows the option would let two
    // programs have one port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    match bind_and_listen(&socket, address) {
        // The IPv4 half is taken, usually by our own `0.0.0.0`: what is asked for is the other one.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_any_ipv6(address) => {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
            #[cfg(not(windows))]
            socket.set_reuse_address(true)?;
            socket.set_only_v6(true)?;
            bind_and_listen(&socket, address)?;
            Ok(socket.into())
        }
        bound => bound.map(|()| socket.into()),
    }
}

fn bind_and_listen(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

fn is_any_ipv6(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified())
}

#[cfg(unix)]
fn unix(path: &Path) -> Result<Bound, StartError> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    let failed = |source| StartError::Bind { address: format!("unix:{}", path.display()), source };
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
            let is_left_behind =
                is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            if !is_left_behind {
                return Err(failed(error));
            }
            std::fs::remove_file(path).map_err(failed)?;
            UnixListener::bind(path).map_err(failed)?
        }
        bound => bound.map_err(failed)?,
    };
    let file = SocketFile { path: path.to_owned(), identity: identity(path) };
    Ok(Bound::Unix(listener, Some(file)))
}

#[cfg(not(unix))]
fn unix(path: &Path) -> Result<Bound, StartError> {
    let source = io::Error::new(io::ErrorKind::Unsupported, "this system has no sockets in the file system");
    Err(StartError::Bind { address: format!("unix:{}", path.display()), source })
}

/// The sockets that systemd has handed over. They are handed over once: whoever asks first has them.
#[cfg(unix)]
fn systemd() -> Result<Vec<Bound>, StartError> {
    let failed = |source| StartError::Bind { address: "systemd".to_owned(), source };
    let mut handed_over = listenfd::ListenFd::from_env();
    let mut bound = Vec::new();
    for index in 0..handed_over.len() {
        let tcp = handed_over.take_tcp_listener(index);
        let socket = match tcp {
            Ok(listener) => listener.map(Bound::Tcp),
            Err(_) => handed_over
                .take_unix_listener(index)
                .map_err(|error| {
                    let problem = format!("{error}, nor a TCP socket: expected ListenStream= in the socket unit");
                    failed(io::Error::new(error.kind(), problem))
                })?
                // systemd made the file, and systemd removes it.
                .map(|listener| Bound::Unix(listener, None)),
        };
        bound.extend(socket);
    }
    if bound.is_empty() {
        const NONE: &str = "no socket was handed over (LISTEN_FDS), or another endpoint has them: start the socket unit, or name an address";
        return Err(failed(io::Error::other(NONE)));
    }
    Ok(bound)
}

#[cfg(not(unix))]
fn systemd() -> Result<Vec<Bound>, StartError> {
    let source = io::Error::new(io::ErrorKind::Unsupported, "this system has no systemd");
    Err(StartError::Bind { address: "systemd".to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_addresses_the_first_is_had_that_the_machine_has_and_none_if_that_is_taken() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap();
        // For documentation: no machine has it.
        let (foreign, free) = (SocketAddr::from(([192, 0, 2, 1], 0)), SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listen_at_first(&[foreign, free]).unwrap().unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
        let error = listen_at_first(&[taken, free]).unwrap().unwrap_err().to_string();
        assert!(error.contains(&taken.to_string()), "{error}");
        assert!(listen_at_first(&[]).is_none());
    }
}
