//! A gRPC server over a unix socket that answers with whatever bytes or status a test gives it.

use std::convert::Infallible;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use prost::Message;
use prost::bytes::{BufMut, Bytes};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::transport::Server;

/// Stops when dropped.
pub(crate) struct Fake(JoinHandle<()>);

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens on `socket`; `answer` gets the method's path and the request's headers.
pub(crate) fn serve(
    socket: &Path,
    answer: impl Fn(&str, &HeaderMap) -> Result<Vec<u8>, Status> + Clone + Send + Sync + 'static,
) -> Fake {
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let _stale = std::fs::remove_file(socket);
    let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            // An answer before the request's end would reset the stream.
            let _request = body.collect().await;
            Ok::<_, Infallible>(match answer(head.uri.path(), &head.headers) {
                Ok(message) => framed(&message),
                Err(status) => status.into_http(),
            })
        }
    });
    Fake(tokio::spawn(async move { Server::builder().serve_with_incoming(service, incoming).await.unwrap() }))
}

/// A message as [`serve`] wants it.
#[expect(clippy::unnecessary_wraps, reason = "it is the answer of a handler")]
pub(crate) fn message(message: &impl Message) -> Result<Vec<u8>, Status> {
    Ok(message.encode_to_vec())
}

fn framed(message: &[u8]) -> Response<Body> {
    let mut frame = vec![0];
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(message);
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(frame)).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}
