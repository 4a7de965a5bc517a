//! The loss as a picture.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 40.0;
/// Points drawn; each is the mean of the steps between.
const POINTS: usize = 200;

/// Draws the last column of a table over its first.
pub fn losses(table: &Path, picture: &Path) -> Result<()> {
    let text = fs::read_to_string(table)?;
    let rows: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| {
            let step = line.split('\t').next()?.parse().ok()?;
            Some((step, line.rsplit('\t').next()?.parse().ok()?))
        })
        .collect();
    fs::write(picture, svg(&rows))?;
    Ok(())
}

fn svg(rows: &[(f64, f64)]) -> String {
    let points: Vec<(f64, f64)> = rows
        .chunks(rows.len().div_ceil(POINTS).max(1))
        .map(|chunk| {
            let mean = |f: fn(&(f64, f64)) -> f64| chunk.iter().map(f).sum::<f64>() / chunk.len() as f64;
            (mean(|row| row.0), mean(|row| row.1))
        })
        .collect();
    let last = points.last().map_or(1.0, |point| point.0);
    let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|point| point.1).fold(low + 1e-3, f64::max);
    let mut line = String::new();
    for (step, loss) in &points {
        let x = MARGIN + step / last * (WIDTH - 2.0 * MARGIN);
        let y = MARGIN + (high - loss) / (high - low) * (HEIGHT - 2.0 * MARGIN);
        let _ = write!(line, "{x:.1},{y:.1} ");
    }
    let bottom = HEIGHT - MARGIN / 2.0;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <polyline points='{}' fill='none' stroke='#36c' stroke-width='1.5'/>\n\
         <text x='4' y='{MARGIN}'>{high:.2}</text><text x='4' y='{bottom}'>{low:.2}</text>\n\
         <text x='{}' y='{bottom}' text-anchor='end'>step {last:.0}</text>\n</svg>\n",
        line.trim_end(),
        WIDTH - MARGIN
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_loss_is_a_falling_line() {
        let picture = svg(&[(1.0, 4.0), (2.0, 3.0), (3.0, 2.0)]);
        assert!(picture.contains("280.0,40.0 520.0,200.0 760.0,360.0"), "{picture}");
        assert!(svg(&[]).starts_with("<svg"));
    }
}
