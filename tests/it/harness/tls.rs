//! TLS for tests: an authority that issues what is asked of it, and relays that put TLS before, or take it from, any
//! address: a plain origin behind a [`Relay::server`] is a TLS origin, a plain client through a [`Relay::client`] a TLS client.
use ringway::base::clock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Signs certificates, and is trusted by whoever is given its file.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names are fine");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these names or addresses, good for years.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_until(names, 2090)
    }

    /// A certificate that ends with the first day of `year`.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names.clone()).expect("names that may stand in a certificate");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, names.first().map_or("nobody", String::as_str));
        let key = rcgen::KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("our own certificate");
        roots
    }
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key`, replacing what is there at one stroke each, and gives them as TOML keys.
    pub fn write(&self, folder: &Path, name: &str) -> String {
        let cert = write(folder, &format!("{name}.pem"), &self.cert);
        let key = write(folder, &format!("{name}.key"), &self.key);
        format!("cert = \"{}\", key = \"{}\"", cert.display(), key.display())
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().expect("our own PEM")
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("our own PEM")
    }
}

/// Writes a file by renaming over it.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    fs::write(&new, text).expect("write in our own folder");
    fs::rename(new, &path).expect("rename in our own folder");
    path
}

/// What a server that shows `pair` speaks. With `clients`, who connects must show a certificate of that authority.
pub fn server_config(pair: &Pair, clients: Option<&Authority>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the defaults fit");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider);
            builder.with_client_cert_verifier(verifier.build().expect("an authority"))
        }
    };
    let mut config = builder.with_single_cert(pair.chain(), pair.private()).expect("a pair that fits");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// What a client that trusts `authority`, and shows `pair` if there is one, speaks.
pub fn client_config(authority: &Authority, pair: Option<&Pair>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the defaults fit")
        .with_root_certificates(authority.roots());
    match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.private()).expect("a pair that fits"),
    }
}

/// One handshake that succeeded, as the relay saw it.
#[derive(Debug, Clone, Default)]
pub struct Shake {
    pub server_name: Option<String>,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
    /// The first certificate the other side showed.
    pub peer: Option<Vec<u8>>,
}

/// Takes connections at one address and carries each to another, with TLS on one of the two sides.
pub struct Relay {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Seen {
    shakes: Mutex<Vec<Shake>>,
    failures: Mutex<Vec<String>>,
    passed_ends: AtomicUsize,
}

#[derive(Clone)]
enum Side {
    Server(TlsAcceptor),
    Client(TlsConnector, ServerName<'static>),
}

impl Relay {
    /// Speaks TLS to whoever connects, and passes what they say on in clear.
    pub fn server(to: SocketAddr, config: ServerConfig) -> Self {
        Self::start(to, Side::Server(TlsAcceptor::from(Arc::new(config))))
    }

    /// Takes what is said in clear and passes it on by TLS to the server that is called `name`.
    pub fn client(to: SocketAddr, name: &str, config: ClientConfig) -> Self {
        let name = ServerName::try_from(name.to_string()).expect("a name");
        Self::start(to, Side::Client(TlsConnector::from(Arc::new(config)), name))
    }

    fn start(to: SocketAddr, side: Side) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind to loopback");
        listener.set_nonblocking(true).expect("a socket of ours");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = oneshot::channel();
        let shared = seen.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a socket of ours");
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, to, side, shared) => {}
                }
            });
        });
        Self { address, seen, running: Some((stop, thread)) }
    }

    /// Handshakes that succeeded so far.
    pub fn shakes(&self) -> Vec<Shake> {
        lock(&self.seen.shakes).clone()
    }

    /// Connections whose server has ended them, and whose client has been told.
    pub fn passed_ends(&self) -> usize {
        self.seen.passed_ends.load(Ordering::SeqCst)
    }

    /// Why handshakes failed so far.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.seen.failures).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            // Whoever has ended already needs no telling; a panic of it was printed.
            stop.send(()).unwrap_or_default();
            thread.join().unwrap_or_default();
        }
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, side: Side, seen: Arc<Seen>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (side, seen) = (side.clone(), seen.clone());
        drop(tokio::spawn(async move {
            if let Err(error) = relay(stream, to, side, &seen).await {
                lock(&seen.failures).push(format!("{:?}: {error}", clock::since_epoch()));
            }
        }));
    }
}

async fn relay(stream: TcpStream, to: SocketAddr, side: Side, seen: &Seen) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match side {
        Side::Server(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            let session = stream.get_ref().1;
            let shake = shake(session, session.server_name(), session.handshake_kind());
            lock(&seen.shakes).push(shake);
            carry(stream, TcpStream::connect(to).await?, seen).await;
        }
        Side::Client(connector, name) => {
            let secure = connector.connect(name, TcpStream::connect(to).await?).await?;
            let session = secure.get_ref().1;
            let shake = shake(session, None, session.handshake_kind());
            lock(&seen.shakes).push(shake);
            carry(stream, secure, seen).await;
        }
    }
    Ok(())
}

/// Carries bytes until both sides are done; how they end is what tests look at, not an error of the relay.
async fn carry(client: impl AsyncRead + AsyncWrite, server: impl AsyncRead + AsyncWrite, seen: &Seen) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (split(client), split(server));
    let forth = async {
        copy(&mut from_client, &mut to_server).await.map(drop).unwrap_or_default();
        to_server.shutdown().await.unwrap_or_default();
    };
    let back = async {
        copy(&mut from_server, &mut to_client).await.map(drop).unwrap_or_default();
        to_client.shutdown().await.unwrap_or_default();
        seen.passed_ends.fetch_add(1, Ordering::SeqCst);
    };
    tokio::join!(forth, back);
}

fn shake<S>(session: &rustls::ConnectionCommon<S>, server_name: Option<&str>, kind: Option<HandshakeKind>) -> Shake {
    Shake {
        server_name: server_name.map(str::to_string),
        alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        resumed: kind == Some(HandshakeKind::Resumed),
        peer: session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
