//! What things are called on the servers.
//!
//! ```text
//! stream    PREFIX_TOPIC                 one for each topic; its metadata has the width and the epoch
//! subject   PREFIX.TOPIC.PARTITION       a record; the partition is ours to choose, so that a named one and a key's
//!                                        are the same in both engines
//! subject   PREFIX.TOPIC.probe           asks whether an id is known; nobody consumes it
//! consumer  GROUP~PARTITION              one for each group and partition
//! ack       $JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.deliveries.sequence.delivery.at_ns.pending
//! ```
//! A dot parts tokens there, so one in the name of a topic or a group is written `=`, which names do not have.

/// A name as one token.
fn token(name: &str) -> String {
    name.replace('.', "=")
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn stream(&self, topic: &str) -> String {
        format!("{}_{}", self.prefix, token(topic))
    }

    /// The topic of a stream; none if it is not of this queue.
    pub(super) fn topic(&self, stream: &str) -> Option<String> {
        let name = stream.strip_prefix(&self.prefix)?.strip_prefix('_')?;
        Some(name.replace('=', "."))
    }

    pub(super) fn subject(&self, topic: &str, partition: u32) -> String {
        format!("{}.{}.{partition}", self.prefix, token(topic))
    }

    pub(super) fn probe(&self, topic: &str) -> String {
        format!("{}.{}.probe", self.prefix, token(topic))
    }

    /// All subjects of a topic.
    pub(super) fn subjects(&self, topic: &str) -> String {
        format!("{}.{}.*", self.prefix, token(topic))
    }

    /// All subjects of the queue.
    pub(super) fn all(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// An acknowledgement for a delivery that this process did not see. Servers find the record by its sequence.
    pub(super) fn ack(&self, topic: &str, consumer: &str, sequence: u64, delivery: u64) -> String {
        format!("$JS.ACK.{}.{consumer}.1.{sequence}.{delivery}.0.0", self.stream(topic))
    }
}

/// The partition of a subject.
pub(super) fn partition(subject: &str) -> Option<u32> {
    subject.rsplit_once('.')?.1.parse().ok()
}

pub(super) fn consumer(group: &str, partition: u32) -> String {
    format!("{}~{partition}", token(group))
}

/// Group and partition of a consumer; none if somebody else made it.
pub(super) fn group(consumer: &str) -> Option<(String, u32)> {
    let (group, partition) = consumer.rsplit_once('~')?;
    Some((group.replace('=', "."), partition.parse().ok()?))
}

/// What the subject says to which a delivery is to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) partition: u32,
    /// How often it was delivered to its group.
    pub(super) deliveries: u32,
    pub(super) sequence: u64,
    /// When it was kept, ns since the epoch.
    pub(super) at_ns: i64,
}

/// Reads the subject; both forms that servers use.
pub(super) fn delivery(ack: &str) -> Option<Delivery> {
    let tokens: Vec<&str> = ack.strip_prefix("$JS.ACK.")?.split('.').collect();
    let tokens = match tokens.len() {
        7 => &tokens[..],
        9.. => &tokens[2..],
        _ => return None,
    };
    let [_stream, consumer, deliveries, sequence, _delivery, at_ns, ..] = tokens else { return None };
    let (_, partition) = group(consumer)?;
    Some(Delivery {
        partition,
        deliveries: deliveries.parse().ok()?,
        sequence: sequence.parse().ok()?,
        at_ns: at_ns.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let names = Names::new("sx");
        assert_eq!(names.stream("a.b_c-d.dead"), "sx_a=b_c-d=dead");
        assert_eq!(names.topic("sx_a=b_c-d=dead").as_deref(), Some("a.b_c-d.dead"));
        assert_eq!((names.topic("other_a"), names.topic("sxx_a")), (None, None));
        assert_eq!(partition(&names.subject("a.b", 17)), Some(17));
        assert_eq!(partition(&names.probe("a")), None);
        assert_eq!(group(&consumer("g.h", 3)), Some(("g.h".to_owned(), 3)));
        assert_eq!(group("somebody-elses"), None);
    }

    #[test]
    fn an_acks_subject_is_read_in_both_forms() {
        let expected = Delivery { partition: 2, deliveries: 3, sequence: 40, at_ns: 1_795_357_174 };
        let short = "$JS.ACK.sx_t.g~2.3.40.7.1795357174.0";
        let long = "$JS.ACK.hub.ACCHASH.sx_t.g~2.3.40.7.1795357174.0.rand";
        assert_eq!((delivery(short), delivery(long)), (Some(expected), Some(expected)));
        let ours = Names::new("sx").ack("t", "g~2", 40, 7);
        assert_eq!(delivery(&ours).map(|it| (it.partition, it.sequence)), Some((2, 40)));
        for wrong in ["", "$JS.ACK.", "$JS.ACK.s.c.1.2.3.4.5", "$JS.ACK.s.g~0.x.2.3.4.5", "_INBOX.x"] {
            assert_eq!(delivery(wrong), None, "{wrong}");
        }
    }
}
