//! `sextant replay`: what is typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

/// Flags of `sextant replay`. Those of the queue have the reference's variables.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The file: CSV with a line of column names, DCGM's as the reference stack writes them
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Receiver whose queue takes the samples
    #[arg(long, env = "MSG_QUEUE_ADDR", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub to: String,
    /// Topic of the queue
    #[arg(long, env = "MSG_QUEUE_TOPIC", value_name = "NAME", default_value = "telemetry")]
    pub topic: String,
    /// How fast: `realtime` as the file's own times are apart, `max` as fast as the receiver takes them, or rows a second
    #[arg(long, value_name = "N|realtime|max", default_value = "realtime")]
    pub rate: Rate,
    /// Begin again at the end, until Ctrl-C
    #[arg(long = "loop")]
    pub again: bool,
    /// Send the file's own times, not the same distances from now
    #[arg(long)]
    pub keep_time: bool,
    /// Where rows go that are none, with line and reason [default: FILE.quarantine.csv]
    #[arg(long, value_name = "FILE")]
    pub quarantine: Option<PathBuf>,
    /// File with the API key for the receiver, one line; else the key in SEXTANT_API_KEY is sent, if it is set
    #[arg(long, env = "SEXTANT_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Authority that the receiver's certificate is of, PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate for a receiver that asks for one, PEM
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// Print the accounts as JSON
    #[arg(long)]
    pub json: bool,
}

/// How fast rows are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As their times are apart.
    Realtime,
    /// As fast as they are taken.
    Max,
    /// So many a second.
    PerSecond(f64),
}

/// Faster is `max`.
const MAX_RATE: f64 = 1e7;

impl FromStr for Rate {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "realtime" => Ok(Self::Realtime),
            "max" => Ok(Self::Max),
            number => match number.parse() {
                Ok(rate) if rate > 0.0 && rate <= MAX_RATE => Ok(Self::PerSecond(rate)),
                _ => Err(format!("neither `realtime`, nor `max`, nor rows a second up to {MAX_RATE:.0}")),
            },
        }
    }
}

/// After the help.
pub const EXAMPLES: &str = "\
Examples:
  sextant replay dcgm_metrics.csv                            as it was recorded, but now
  sextant replay dcgm_metrics.csv --rate 50 --loop           50 rows a second until Ctrl-C
  sextant replay dcgm_metrics.csv --rate max --json          at once; accounts as JSON
  curl -s 'localhost:8080/consume?topic=telemetry&group=look&max=1'

Columns, in any order: timestamp, metric_name, gpu_id, device, uuid, modelName, Hostname, value, and where there are
any container, pod, namespace, labels_raw. A row that is none is not sent: it is written to the quarantine file with its
line and its reason. One without a value (NaN, infinite, DCGM's 9223372036854775794 for \"not supported\") is counted.

Times: the rows keep their distances. With --rate realtime the first row is now; else the last one is, so that none lies
in the future, and with --loop each pass lies over the one before.

What the receiver has no room for waits and is sent again, for ever, under the same id, so that nothing is in the queue
twice that was taken within the queue's dedup_window_ms, two minutes. Series have each sample once in any case.
A key that is wrong and an address that is no receiver's end it.

rows = sent + quarantined + blank + unsent. Exit codes: 0 everything was sent or accounted for, 1 not, 2 wrong usage.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_word_or_a_number_that_can_be() {
        assert_eq!("realtime".parse(), Ok(Rate::Realtime));
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("0.5".parse(), Ok(Rate::PerSecond(0.5)));
        for wrong in ["", "0", "-1", "NaN", "inf", "1e8", "fast", "10/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
