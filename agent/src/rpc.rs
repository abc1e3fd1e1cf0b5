//! One unary gRPC call over one of the node's own unix sockets, with a time limit and a size limit. Messages are structs of
//! whoever calls, with the fields that are read and no others.

use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use thiserror::Error;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

#[cfg(test)]
pub(crate) mod fake;

/// Time for a connection and for each call: a runtime that is under load answers its lists within a second.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum RpcError {
    /// None of the sockets exists: not an error where there is no such service.
    #[error("no socket of {service} below {}", tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    Absent {
        /// The service.
        service: &'static str,
        /// Where it would be.
        tried: Vec<PathBuf>,
    },
    /// The socket does not accept connections.
    #[error("cannot connect to {socket}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The service answered with an error.
    #[error("{method} on {socket}: {} ({})", source.message(), source.code())]
    Call {
        /// The socket.
        socket: PathBuf,
        /// The method's path.
        method: &'static str,
        /// Its answer.
        #[source]
        source: Box<Status>,
    },
}

impl RpcError {
    /// The code of the answer, if there was one.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Call { source, .. } => Some(source.code()),
            Self::Absent { .. } | Self::Connect { .. } => None,
        }
    }
}

/// A connected socket.
pub(crate) struct Socket {
    path: PathBuf,
    channel: Channel,
    max_answer_bytes: usize,
}

impl Socket {
    /// Connects to the first of `paths` that exists; larger answers than `max_answer_bytes` are errors.
    pub(crate) async fn connect(
        service: &'static str,
        paths: Vec<PathBuf>,
        max_answer_bytes: usize,
    ) -> Result<Self, RpcError> {
        let Some(path) = paths.iter().find(|path| path.exists()).cloned() else {
            return Err(RpcError::Absent { service, tried: paths });
        };
        let error = |source| RpcError::Connect { socket: path.clone(), source };
        let uri = format!("unix://{}", path.display());
        let endpoint = Endpoint::from_shared(uri).map_err(error)?.connect_timeout(TIMEOUT).timeout(TIMEOUT);
        let channel = endpoint.connect().await.map_err(error)?;
        Ok(Self { path, channel, max_answer_bytes })
    }

    /// Calls `method` (`/package.Service/Method`).
    pub(crate) async fn call<Q, A>(&self, method: &'static str, request: Request<Q>) -> Result<A, RpcError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let error =
            |source: Status| RpcError::Call { socket: self.path.clone(), method, source: Box::new(source) };
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(self.max_answer_bytes);
        let ready = client.ready().await;
        ready.map_err(|source| RpcError::Connect { socket: self.path.clone(), source })?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let answer = client.unary(request, PathAndQuery::from_static(method), codec);
        // The endpoint's own limit does not cover a body that trickles in.
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        Ok(answer.map_err(error)?.into_inner())
    }
}
