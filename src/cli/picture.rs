//! Rings as an SVG: for each upstream its circle of points, and how much each endpoint owns. One file for light and dark.
use crate::analysis::ring::EndpointShare;
use crate::analysis::ring::RingReport;
use crate::ring::Ring;
use std::f64::consts::TAU;
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
/// The circle's middle within its panel, and its radii.
const MIDDLE: (f64, f64) = (180.0, 210.0);
const RADII: (f64, f64) = (105.0, 145.0);
/// Where the bars begin, how wide they are at 1.0 of the fair part, and how far they may reach.
const BARS: (f64, f64) = (520.0, 180.0);
const MOST_BARS: usize = 14;
/// Arcs drawn at most: more cannot be told apart.
const MOST_ARCS: usize = 1440;

/// Both schemes: `currentColor` and the page's background come from the viewer's.
const STYLE: &str = "<style>\
text{font:13px system-ui,sans-serif;fill:#1f2328}.dim{fill:#59636e;font-size:12px}.title{font-size:17px;font-weight:600}\
.page{fill:#ffffff}.fair{stroke:#59636e}\
@media (prefers-color-scheme:dark){text{fill:#f0f3f6}.dim{fill:#9ea7b3}.page{fill:#14171c}.fair{stroke:#9ea7b3}}\
</style>";

/// One panel for each ring, one below the other.
pub fn svg(rings: &[(Ring, RingReport)]) -> String {
    let height = HEIGHT * rings.len().max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n{STYLE}\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n"
    );
    for (number, (ring, report)) in rings.iter().enumerate() {
        put(&mut out, format_args!("<g transform=\"translate(0 {})\">\n", HEIGHT * number as f64));
        head(&mut out, report);
        circle(&mut out, ring);
        if report.endpoints.len() <= MOST_BARS {
            bars(&mut out, report)
        } else {
            profile(&mut out, report)
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a text takes all that is written");
}

fn head(out: &mut String, report: &RingReport) {
    let facts = format!(
        "{} endpoints · {} points · {} probes · peak/mean {:.3} · {:.1} KiB · ring {}",
        report.endpoints.len(),
        report.points,
        report.probes,
        report.peak_to_mean,
        report.memory_bytes as f64 / 1024.0,
        report.fingerprint
    );
    let name = escape(&report.upstream);
    put(out, format_args!("<text class=\"title\" x=\"24\" y=\"32\">{name} ({})</text>\n", report.algorithm));
    put(out, format_args!("<text class=\"dim\" x=\"24\" y=\"52\">{facts}</text>\n"));
}

/// Each arc in the colour of the endpoint whose point ends it.
fn circle(out: &mut String, ring: &Ring) {
    let points: Vec<(f64, usize)> = ring.points().map(|(place, slot)| (place, slot.0 as usize)).collect();
    let Some((_, first)) = points.first().copied() else { return };
    let step = points.len().div_ceil(MOST_ARCS);
    let mut start = 0.0;
    for (place, slot) in points.into_iter().step_by(step).chain([(1.0, first)]) {
        arc(out, start, place, &colour(slot));
        start = place;
    }
    let (x, y) = MIDDLE;
    put(out, format_args!("<text class=\"dim\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">points</text>\n", y + 4.0));
}

fn arc(out: &mut String, from: f64, to: f64, colour: &str) {
    // A whole turn has no direction: a circle of one point is drawn a hair short.
    let (from, to) = (from * TAU, (to.min(from + 0.9999)) * TAU);
    let at = |angle: f64, radius: f64| (MIDDLE.0 + radius * angle.sin(), MIDDLE.1 - radius * angle.cos());
    let ((a, b), (c, d)) = (at(from, RADII.1), at(to, RADII.1));
    let ((e, f), (g, h)) = (at(to, RADII.0), at(from, RADII.0));
    let large = u8::from(to - from > TAU / 2.0);
    let (inner, outer) = RADII;
    put(
        out,
        format_args!(
            "<path fill=\"{colour}\" d=\"M{a:.2} {b:.2}A{outer} {outer} 0 {large} 1 {c:.2} {d:.2}L{e:.2} {f:.2}A{inner} {inner} 0 \
             {large} 0 {g:.2} {h:.2}Z\"/>\n"
        ),
    );
}

/// A bar for each endpoint: its share over the one its weight would give it.
fn bars(out: &mut String, report: &RingReport) {
    let (left, unit) = BARS;
    put(out, format_args!("<text class=\"dim\" x=\"{left}\" y=\"82\">share of keys, over the fair part</text>\n"));
    let pitch = 270.0 / report.endpoints.len().max(8) as f64;
    for (slot, endpoint) in report.endpoints.iter().enumerate() {
        let (y, width) = (92.0 + pitch * slot as f64, (endpoint.over_fair * unit).min(250.0));
        let middle = y + pitch / 2.0 + 1.0;
        put(
            out,
            format_args!(
                "<text x=\"{}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\n\
                 <rect x=\"{left}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\n\
                 <text class=\"dim\" x=\"{:.1}\" y=\"{middle:.1}\">{:.2}%</text>\n",
                left - 8.0,
                shortened(endpoint),
                pitch * 0.7,
                colour(slot),
                left + width.max(unit) + 8.0,
                endpoint.share * 100.0
            ),
        );
    }
    let (x, bottom) = (left + unit, 92.0 + pitch * report.endpoints.len() as f64);
    put(out, format_args!("<path class=\"fair\" stroke-dasharray=\"3 3\" d=\"M{x} 88V{bottom:.1}\"/>\n"));
}

/// Too many for names: all endpoints as thin columns, the busiest first, with a line at the fair part.
fn profile(out: &mut String, report: &RingReport) {
    let mut columns: Vec<(usize, &EndpointShare)> = report.endpoints.iter().enumerate().collect();
    columns.sort_by(|a, b| b.1.over_fair.total_cmp(&a.1.over_fair));
    let (left, width, bottom, unit) = (390.0, 440.0, 350.0, 150.0);
    put(
        out,
        format_args!("<text class=\"dim\" x=\"{left}\" y=\"82\">share over the fair part, the busiest first</text>\n"),
    );
    let pitch = width / columns.len() as f64;
    // No more columns than can be seen: of those that fall together the busiest is drawn.
    let step = columns.len().div_ceil(width as usize);
    for (at, (slot, endpoint)) in columns.iter().enumerate().step_by(step) {
        let height = (endpoint.over_fair * unit).min(250.0);
        let (x, y) = (left + pitch * at as f64, bottom - height);
        let wide = (pitch * step as f64 * 0.9).max(0.5);
        let colour = colour(*slot);
        put(
            out,
            format_args!(
                "<rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{wide:.2}\" height=\"{height:.1}\" fill=\"{colour}\"/>\n"
            ),
        );
    }
    let (y, right) = (bottom - unit, left + width);
    put(out, format_args!("<path class=\"fair\" stroke-dasharray=\"3 3\" d=\"M{left} {y}H{right}\"/>\n"));
    for (label, (_, endpoint), x, anchor) in
        [("busiest", columns[0], left, "start"), ("least busy", columns[columns.len() - 1], right, "end")]
    {
        put(
            out,
            format_args!(
                "<text class=\"dim\" x=\"{x}\" y=\"370\" text-anchor=\"{anchor}\">{label}: {} {:.3}</text>\n",
                shortened(endpoint),
                endpoint.over_fair
            ),
        );
    }
}

fn shortened(endpoint: &EndpointShare) -> String {
    let id = &endpoint.id;
    escape(&if id.len() > 22 { format!("{}…", &id[..id.floor_char_boundary(21)]) } else { id.clone() })
}

/// Neighbours by number differ by the golden angle; all are light enough for a dark page and dark enough for a light one.
fn colour(slot: usize) -> String {
    let hue = (slot as f64 * 137.508) % 360.0 / 60.0;
    let lightness = [0.52, 0.62, 0.44][slot / 7 % 3];
    let chroma = (1.0 - f64::abs(2.0 * lightness - 1.0)) * 0.62;
    let second = chroma * (1.0 - f64::abs(hue % 2.0 - 1.0));
    let (red, green, blue) = match hue as u32 {
        0 => (chroma, second, 0.0),
        1 => (second, chroma, 0.0),
        2 => (0.0, chroma, second),
        3 => (0.0, second, chroma),
        4 => (second, 0.0, chroma),
        _ => (chroma, 0.0, second),
    };
    let byte = |part: f64| ((part + lightness - chroma / 2.0) * 255.0).round() as u8;
    format!("#{:02x}{:02x}{:02x}", byte(red), byte(green), byte(blue))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
