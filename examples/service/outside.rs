//! Everybody else: the customers, some of them patient and some not, those who try doors, and the supplier.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Method, Request, StatusCode, header};
use axum::routing::post;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tower::BoxError;

/// Starts the supplier on a port that the system chooses.
pub(crate) async fn supplier() -> io::Result<SocketAddr> {
    let app = Router::new().route("/stock/{id}", post(stock));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// One answer in eight is an error, and a few come too late.
async fn stock(Path(order): Path<u64>) -> (StatusCode, String) {
    if order % 40 == 7 {
        sleep(Duration::from_secs(1)).await;
    }
    let status = if order.is_multiple_of(8) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, format!("{{\"left\": {}}}", order % 100))
}

/// About two hundred requests a second, until the runtime is shut down.
pub(crate) async fn customers(service: SocketAddr) {
    let customer = Customer { service, client: Client::builder(TokioExecutor::new()).build_http() };
    for _ in 0..4 {
        tokio::spawn(customer.clone().buy());
    }
    tokio::spawn(customer.clone().lose_patience());
    tokio::spawn(customer.clone().try_doors());
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    Customer { service, client }.count().await;
}

/// Sends requests. What becomes of them is not its business: the service says it.
#[derive(Clone)]
struct Customer {
    service: SocketAddr,
    client: Client<HttpConnector, Body>,
}

impl Customer {
    /// Orders, looks at the order, and now and then at its invoice.
    async fn buy(self) {
        for id in 0_u64.. {
            let goods = "a good ".repeat(usize::try_from(id % 300).unwrap_or_default());
            let _ = self.ask(Method::POST, "/orders", goods).await;
            let _ = self.ask(Method::GET, &format!("/orders/{id}"), "").await;
            if id.is_multiple_of(10) {
                let _ = self.ask(Method::GET, &format!("/orders/{id}/invoice"), "").await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks for what takes time and does not wait for it.
    async fn lose_patience(self) {
        for id in 0_u64.. {
            let invoice = format!("/orders/{id}/invoice");
            let _ = timeout(Duration::from_millis(50), self.ask(Method::GET, &invoice, "")).await;
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Asks for what is not there, as the first hour on a public address teaches, and for what goes wrong.
    async fn try_doors(self) {
        let brew = Method::from_bytes(b"BREW").unwrap_or_default();
        for round in 0_u64.. {
            for path in ["/wp-login.php", "/.env", "/cgi-bin/luci"] {
                let _ = self.ask(Method::GET, path, "").await;
            }
            let _ = self.ask(brew.clone(), "/orders", "").await;
            let _ = self.ask(Method::GET, "/export", "").await;
            if round.is_multiple_of(4) {
                let _ = self.ask(Method::GET, "/panic", "").await;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Calls by gRPC, for which the client speaks HTTP/2.
    async fn count(self) {
        loop {
            let _ = self.ask(Method::POST, "/shop.Orders/Count", &b"\0\0\0\0\0"[..]).await;
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> Result<(), BoxError> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.service));
        if path.starts_with("/shop.") {
            request = request.header(header::CONTENT_TYPE, "application/grpc");
        }
        let response = self.client.request(request.body(body.into())?).await?;
        response.into_body().collect().await?;
        Ok(())
    }
}
