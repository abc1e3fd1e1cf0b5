//! OpenMetrics 1.0 to Prometheus text 0.0.4, line by line.
//!
//! What differs for the families we write: a counter's HELP and TYPE name the sample (`x_total`); an info
//! metric is a gauge `x_info`; there is no UNIT and no EOF. Samples are the same. The input is our own
//! encoder's output: HELP, TYPE, perhaps UNIT, then samples.

/// Converts the text.
pub fn from_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, words)| words);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                same => ("", same),
            };
            out += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_headers_change() {
        let text = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1.5\n\
                    # HELP b Build.\n# TYPE b info\nb_info{v=\"# x\"} 1\n# HELP c C.\n# TYPE c gauge\nc -1\n# EOF\n";
        let classic = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total 1.5\n\
                       # HELP b_info Build.\n# TYPE b_info gauge\nb_info{v=\"# x\"} 1\n\
                       # HELP c C.\n# TYPE c gauge\nc -1\n";
        assert_eq!(from_openmetrics(text), classic);
    }
}
