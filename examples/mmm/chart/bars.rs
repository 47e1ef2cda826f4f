//! Lying bars with whiskers.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{Area, Drawn, GRID, INK, MUTED, anchored, failed, label, text};

/// One bar.
pub(super) struct Bar<'a> {
    /// Written before the bar.
    pub(super) name: &'a str,
    /// Its fill.
    pub(super) colour: RGBColor,
    /// Its length.
    pub(super) value: f64,
    /// Drawn over it as a whisker.
    pub(super) range: Option<(f64, f64)>,
    /// Written after it.
    pub(super) label: String,
}

/// Draws the first bar on top. `unit` follows the numbers of the axis.
pub(super) fn bar_chart(area: &Area<'_>, bars: &[Bar<'_>], unit: &str) -> Drawn {
    let end = |bar: &Bar| bar.range.map_or(bar.value, |(_, high)| high.max(bar.value));
    let longest = bars.iter().map(end).fold(f64::MIN_POSITIVE, f64::max);
    let count = bars.len() as f64;
    let middle = |index: usize| count - index as f64 - 0.5;
    let mut chart = ChartBuilder::on(area)
        .margin_top(76)
        .margin_right(28)
        .margin_bottom(12)
        .set_label_area_size(LabelAreaPosition::Left, 104)
        .set_label_area_size(LabelAreaPosition::Bottom, 30)
        .build_cartesian_2d(0.0..longest * 1.3, 0.0..count)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(6)
        .y_labels(0)
        .x_label_formatter(&|value| format!("{value:.0}{unit}"))
        .label_style(text(14, MUTED))
        .draw()
        .map_err(failed)?;
    for (index, bar) in bars.iter().enumerate() {
        let y = middle(index);
        chart
            .draw_series([Rectangle::new([(0.0, y - 0.3), (bar.value, y + 0.3)], bar.colour.filled())])
            .map_err(failed)?;
        if let Some((low, high)) = bar.range {
            let whisker = |path| PathElement::new(path, INK.stroke_width(2));
            let caps = [low, high].map(|x| whisker(vec![(x, y - 0.14), (x, y + 0.14)]));
            chart.draw_series(caps).map_err(failed)?;
            chart.draw_series([whisker(vec![(low, y), (high, y)])]).map_err(failed)?;
        }
        let start = chart.backend_coord(&(0.0, y));
        let after = chart.backend_coord(&(end(bar), y));
        label(area, bar.name, (start.0 - 12, start.1), anchored(text(16, INK), HPos::Right, VPos::Center))?;
        label(area, &bar.label, (after.0 + 10, after.1), anchored(text(15, INK), HPos::Left, VPos::Center))?;
    }
    Ok(())
}
