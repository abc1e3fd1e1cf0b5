//! The algorithm of the reference server, by its description: events wait per scraper, known by its address alone, and a
//! scrape takes them away before its answer is on its way. Timestamps are the posts'.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use sextant_tests::fault_proxy::read_message;

/// Events that wait: of each scraper, of each series its last.
type Waiting = HashMap<IpAddr, HashMap<String, String>>;

/// Serves until the test ends; where.
pub(crate) fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let waiting = Arc::new(Mutex::new(Waiting::new()));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let waiting = Arc::clone(&waiting);
            std::thread::spawn(move || drop(talk(client, &waiting)));
        }
    });
    address
}

fn talk(mut client: TcpStream, waiting: &Mutex<Waiting>) -> Result<()> {
    let peer = client.peer_addr()?.ip();
    while let Some(request) = read_message(&mut client)? {
        let request = String::from_utf8(request)?;
        let path = request.split(' ').nth(1).context("no path")?;
        let body = match path.split_once('?') {
            Some(("/event", query)) => {
                let (name, value) = query.split_once('=').context("no label")?;
                let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
                let series = format!("events_to_metrics{{{name}=\"{value}\"}}");
                for queue in waiting.lock().unwrap().values_mut() {
                    queue.insert(series.clone(), format!("1 {now_ms}"));
                }
                String::new()
            }
            _ => {
                let mut waiting = waiting.lock().unwrap();
                // The first one registers, and gets nothing.
                let taken = waiting.insert(peer, HashMap::new()).unwrap_or_default();
                taken.iter().fold(
                    "# TYPE events_to_metrics gauge\n".to_owned(),
                    |mut text, (series, sample)| {
                        let _ = writeln!(text, "{series} {sample}");
                        text
                    },
                )
            }
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";
        write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}
