//! Figures for Prometheus.

use std::time::Duration;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

/// Upper ends of the buckets, in seconds.
const FIRST_TOKEN: [f64; 12] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
const EACH_TOKEN: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// What is counted for programs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// HTTP requests that were answered, whatever the answer.
    pub requests: Counter,
    /// Texts that are being written or wait for it.
    pub unfinished: Gauge,
    /// Texts that were given up because their client went away.
    pub given_up: Counter,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    written_tokens: Counter,
    first_token: Histogram,
    each_token: Histogram,
}

/// What the daemon counts anyway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyStrokes {
    pub answered: u64,
    pub given_up: u64,
    pub connections: usize,
    pub rss_mib: Option<f64>,
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("nemoterm"),
            requests: Counter::default(),
            unfinished: Gauge::default(),
            given_up: Counter::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            written_tokens: Counter::default(),
            first_token: Histogram::new(FIRST_TOKEN),
            each_token: Histogram::new(EACH_TOKEN),
        };
        let registry = &mut metrics.registry;
        registry.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        registry.register("texts_unfinished", "Texts being written or waiting", metrics.unfinished.clone());
        registry.register("texts_given_up", "Texts whose client went away", metrics.given_up.clone());
        registry.register("prompt_tokens", "Tokens of prompts", metrics.prompt_tokens.clone());
        registry.register(
            "cached_tokens",
            "Tokens of prompts found in a cache",
            metrics.cached_tokens.clone(),
        );
        registry.register("written_tokens", "Tokens written", metrics.written_tokens.clone());
        let seconds = Unit::Seconds;
        let help = "From a request's arrival to its first token";
        registry.register_with_unit("first_token", help, seconds.clone(), metrics.first_token.clone());
        let help = "From one token of a text to its next";
        registry.register_with_unit("each_token", help, seconds, metrics.each_token.clone());
        metrics
    }

    /// A prompt was read.
    pub fn read(&self, tokens: usize, cached: usize) {
        self.prompt_tokens.inc_by(tokens as u64);
        self.cached_tokens.inc_by(cached as u64);
    }

    /// A token was written, so long after the text's last one, or after the request's arrival.
    pub fn wrote(&self, is_first: bool, after: Duration) {
        self.written_tokens.inc();
        let histogram = if is_first { &self.first_token } else { &self.each_token };
        histogram.observe(after.as_secs_f64());
    }

    /// All figures in Prometheus' text format.
    ///
    /// # Errors
    /// Never for a `String`; the encoder's signature has it.
    pub fn text(&self, key_strokes: KeyStrokes) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        let mut now = Registry::with_prefix("nemoterm");
        now.register_collector(Box::new(key_strokes));
        text::encode(&mut text, &now)?;
        Ok(text)
    }
}

impl Collector for KeyStrokes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in [
            ("key_strokes_answered", "Completions for shells", self.answered),
            ("key_strokes_given_up", "Completions for shells that became stale", self.given_up),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let shells = ConstGauge::new(self.connections as i64);
        let metric = encoder.encode_descriptor("shells", "Shells connected", None, shells.metric_type())?;
        shells.encode(metric)?;
        if let Some(mib) = self.rss_mib {
            let resident = ConstGauge::new(mib * f64::from(1 << 20));
            let help = "Resident memory";
            let metric =
                encoder.encode_descriptor("resident", help, Some(&Unit::Bytes), resident.metric_type())?;
            resident.encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_told() {
        let metrics = Metrics::new();
        metrics.read(10, 4);
        metrics.wrote(true, Duration::from_millis(3));
        metrics.wrote(false, Duration::from_millis(30));
        let key_strokes = KeyStrokes { answered: 7, given_up: 1, connections: 2, rss_mib: Some(1.0) };
        let text = metrics.text(key_strokes).unwrap();
        for line in [
            "nemoterm_prompt_tokens_total 10",
            "nemoterm_cached_tokens_total 4",
            "nemoterm_written_tokens_total 2",
            "nemoterm_first_token_seconds_bucket{le=\"0.005\"} 1",
            "nemoterm_each_token_seconds_bucket{le=\"0.02\"} 0",
            "nemoterm_key_strokes_answered_total 7",
            "nemoterm_shells 2",
            "nemoterm_resident_bytes 1048576.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    }
}
