//! How often predictions are right, by how sure they are.

use std::fmt::Write;

use super::{At, Axis, TickFormat, svg};
use crate::evaluation::ReliabilityBin;
use crate::format::{count, percent};

const WIDTH: f64 = 440.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 8.0;
/// The base of the bars of accuracy.
const BOTTOM: f64 = 268.0;
/// The base of the bars of counts.
const COUNTS_BOTTOM: f64 = 346.0;
const COUNTS_HEIGHT: f64 = 46.0;
const HEIGHT: f64 = 388.0;

/// Bars of accuracy over confidence, against the line where both are the same, and below how
/// many images each bar stands for.
pub(crate) fn reliability(id: &str, title: &str, note: &str, bins: &[ReliabilityBin]) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = draw_axes(&mut body);
    let largest = bins.iter().map(|bin| bin.n).max().unwrap_or(0).max(1);
    let mut description = format!("{note}.");
    for bin in bins.iter().filter(|bin| bin.n > 0) {
        let _ = draw_bin(&mut body, bin, largest);
        let _ = write!(
            description,
            " Confidence {} to {}: {} right of {}.",
            percent(Some(bin.low)),
            percent(Some(bin.high)),
            percent(bin.accuracy),
            count(bin.n)
        );
    }
    let _ = write!(
        body,
        "<path class=\"line floor\" d=\"M{LEFT} {BOTTOM}L{RIGHT} {TOP}\"/>\
         <text class=\"tick\" x=\"{LEFT}\" y=\"{}\">images, at most {}</text>\
         <text class=\"tick\" x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">confidence</text>",
        At(COUNTS_BOTTOM - COUNTS_HEIGHT - 7.0),
        count(largest),
        At(HEIGHT - 5.0),
    );
    svg(id, WIDTH, HEIGHT, title, &description, &body)
}

fn draw_axes(out: &mut String) -> std::fmt::Result {
    let axis = Axis::new((0.0, 1.0), 5, TickFormat::Percent);
    for (value, label) in axis.ticks() {
        let (x, y) = (axis.position(value, LEFT, RIGHT), axis.position(value, BOTTOM, TOP));
        write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y}H{RIGHT}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>\
             <path class=\"axis\" d=\"M{x} {COUNTS_BOTTOM}v4\"/>\
             <text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            At(LEFT - 7.0),
            At(y + 4.0),
            At(COUNTS_BOTTOM + 18.0),
            x = At(x),
            y = At(y),
        )?;
    }
    writeln!(
        out,
        "<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}M{LEFT} {COUNTS_BOTTOM}H{RIGHT}\"/>"
    )
}

fn draw_bin(out: &mut String, bin: &ReliabilityBin, largest: u64) -> std::fmt::Result {
    let x_at = |value: f64| LEFT + value.clamp(0.0, 1.0) * (RIGHT - LEFT);
    let y_at = |value: f64| BOTTOM - value.clamp(0.0, 1.0) * (BOTTOM - TOP);
    let (x, width) = (x_at(bin.low) + 1.0, (x_at(bin.high) - x_at(bin.low) - 2.0).max(1.0));
    let rect = |out: &mut String, class: &str, top: f64, bottom: f64| {
        write!(
            out,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            At(x),
            At(top.min(bottom)),
            At(width),
            At((bottom - top).abs())
        )
    };
    write!(
        out,
        "<g><title>{} to {}: {} right, mean confidence {}, {} images</title>",
        percent(Some(bin.low)),
        percent(Some(bin.high)),
        percent(bin.accuracy),
        percent(bin.confidence),
        count(bin.n)
    )?;
    if let (Some(accuracy), Some(confidence)) = (bin.accuracy, bin.confidence) {
        rect(out, "bar main", y_at(accuracy), BOTTOM)?;
        // What is claimed and not held, or held and not claimed.
        rect(out, "gap", y_at(accuracy), y_at(confidence))?;
    }
    let height = (COUNTS_HEIGHT * bin.n as f64 / largest as f64).max(1.0);
    rect(out, "bar", COUNTS_BOTTOM - height, COUNTS_BOTTOM)?;
    writeln!(out, "</g>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reliability_draws_bars_gaps_and_counts_of_bins_with_images() {
        let bin = |low: f64, n, accuracy| ReliabilityBin {
            low,
            high: low + 0.5,
            n,
            confidence: Some(low + 0.25),
            accuracy,
        };
        let bins = [bin(0.0, 0, None), bin(0.5, 20, Some(0.5))];
        let svg = reliability("r", "t", "note", &bins);
        assert!(
            svg.contains("class=\"bar main\" x=\"239\" y=\"138\" width=\"186\" height=\"130\"")
        );
        assert!(svg.contains("class=\"gap\" x=\"239\" y=\"73\" width=\"186\" height=\"65\""));
        assert!(svg.contains("50.0\u{202f}% right of 20"));
        assert_eq!(svg.matches("<g>").count(), 1);
    }
}
