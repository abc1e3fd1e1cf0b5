//! The fleet's pods as one answer, encoded node by node while it is sent: a fleet's map is hundreds of
//! megabytes, and no more than one node's part of it is in memory as text at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::Frame;

use crate::api::envelope::Message;
use crate::api::pods::{FleetPodPids, Pods};

/// The answer's body: the envelope's keys, then `pods` with an entry per container that holds a process.
pub(super) fn body(nodes: Vec<(String, Arc<Pods>)>, now_ns: i64) -> Body {
    let head = Message::new(true, "Pod-PID mappings retrieved successfully", now_ns);
    // Three plain strings and a boolean: there is nothing that could fail.
    let head = serde_json::to_string(&head).unwrap_or_default();
    let head = format!("{},\"pods\":[", head.trim_end_matches('}'));
    let mut first = true;
    let parts = nodes.into_iter().map(move |(node, pods)| part(&node, &pods, &mut first));
    let all = std::iter::once(head).chain(parts).chain(std::iter::once("]}".to_owned()));
    Body::new(Parts(all.map(Bytes::from)))
}

fn part(node: &str, pods: &Pods, first: &mut bool) -> String {
    let mut text = String::new();
    for pod in pods.pids() {
        if !std::mem::take(first) {
            text.push(',');
        }
        let entry = FleetPodPids { node: node.to_owned(), pod };
        text += &serde_json::to_string(&entry).unwrap_or_default();
    }
    text
}

struct Parts<I>(I);

impl<I: Iterator<Item = Bytes> + Unpin> hyper::body::Body for Parts<I> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        // An empty part would end a chunked body: a node without pods has none.
        let part = self.0.by_ref().find(|part| !part.is_empty());
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }
}
