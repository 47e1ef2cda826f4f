//! The chart of a training: fit over time, contributions and returns, as one SVG.
//!
//! Labels are placed by anchor and never by measured width, as no font is at hand in a container.

mod bars;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use self::bars::{Bar, bar_chart};
use crate::report::{ChannelResult, TrainingReport, WeeklyFit};

const SIZE: (u32, u32) = (1200, 900);
const MILLION: f64 = 1e6;

const INK: RGBColor = RGBColor(38, 43, 51);
const MUTED: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(229, 231, 235);
const SHADE: RGBColor = RGBColor(243, 238, 226);
const ACTUAL: RGBColor = RGBColor(38, 43, 51);
const FITTED: RGBColor = RGBColor(213, 94, 0);
const PAID: RGBColor = RGBColor(0, 114, 178);
const ORGANIC: RGBColor = RGBColor(0, 158, 115);

/// The chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the chart could not be drawn: {0}")]
pub(crate) struct ChartError(String);

type Drawn = Result<(), ChartError>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the chart and returns the SVG document.
///
/// # Errors
/// When the coordinates cannot be laid out.
pub(crate) fn draw(report: &TrainingReport, weeks: &[WeeklyFit]) -> Result<String, ChartError> {
    let mut document = String::new();
    {
        let canvas = SVGBackend::with_string(&mut document, SIZE).into_drawing_area();
        canvas.fill(&WHITE).map_err(failed)?;
        let (top, bottom) = canvas.split_vertically(540);
        let (left, right) = bottom.split_horizontally(620);
        fit_over_time(&top, report, weeks)?;
        contributions(&left, report)?;
        returns(&right, report)?;
        canvas.present().map_err(failed)?;
    }
    Ok(document)
}

fn fit_over_time(area: &Area<'_>, report: &TrainingReport, weeks: &[WeeklyFit]) -> Drawn {
    let fit = &report.fit;
    heading(
        area,
        "Revenue per week",
        &format!(
            "R² {:.3} on the {} weeks of training. On the last {} weeks, held out: R² {:.3}, mean error {:.1} %",
            fit.r2_training,
            report.training_weeks,
            report.held_out_weeks,
            fit.r2_held_out,
            100.0 * fit.mape_held_out,
        ),
    )?;
    let highest = weeks.iter().map(|week| week.revenue.max(week.fitted)).fold(0.0, f64::max) / MILLION;
    let last = weeks.len() as f64 - 0.5;
    let mut chart = ChartBuilder::on(area)
        .margin_top(104)
        .margin_right(28)
        .set_label_area_size(LabelAreaPosition::Left, 76)
        .set_label_area_size(LabelAreaPosition::Bottom, 34)
        .build_cartesian_2d(-0.5..last, 0.0..highest * 1.08)
        .map_err(failed)?;
    let split = report.training_weeks as f64 - 0.5;
    chart.draw_series([Rectangle::new([(split, 0.0), (last, highest * 1.08)], SHADE.filled())]).map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(0)
        .y_labels(6)
        .y_label_formatter(&|value| format!("{value:.0} M"))
        .label_style(text(14, MUTED))
        .draw()
        .map_err(failed)?;
    let line =
        |value: fn(&WeeklyFit) -> f64| weeks.iter().enumerate().map(move |(x, week)| (x as f64, value(week) / MILLION));
    chart.draw_series(LineSeries::new(line(|week| week.revenue), ACTUAL.stroke_width(2))).map_err(failed)?;
    chart.draw_series(LineSeries::new(line(|week| week.fitted), FITTED.stroke_width(2))).map_err(failed)?;
    for (index, week) in weeks.iter().enumerate().filter(|(index, _)| starts_half_year(weeks, *index)) {
        let (x, y) = chart.backend_coord(&(index as f64, 0.0));
        chart
            .draw_series([PathElement::new([(index as f64, 0.0), (index as f64, highest * 0.015)], MUTED)])
            .map_err(failed)?;
        label(area, &month(&week.week), (x, y + 8), anchored(text(14, MUTED), HPos::Center, VPos::Top))?;
    }
    let middle = chart.backend_coord(&((split + last) / 2.0, highest * 1.08));
    label(area, "held out", (middle.0, middle.1 + 8), anchored(text(14, MUTED), HPos::Center, VPos::Top))?;
    key(area, 76, ACTUAL, "actual")?;
    key(area, 166, FITTED, "fitted")
}

fn contributions(area: &Area<'_>, report: &TrainingReport) -> Drawn {
    let base = 100.0 * report.base.share;
    heading(
        area,
        "Revenue brought by channel",
        &format!("Sum of all weeks, green: organic. The base brings the other {base:.1} %"),
    )?;
    let bars: Vec<Bar> = report
        .channels
        .iter()
        .map(|channel| Bar {
            name: &channel.channel,
            colour: colour(channel),
            value: channel.contribution / MILLION,
            range: None,
            label: format!("{:.1} M  ({:.1} %)", channel.contribution / MILLION, 100.0 * channel.share),
        })
        .collect();
    bar_chart(area, &bars, " M")
}

fn returns(area: &Area<'_>, report: &TrainingReport) -> Drawn {
    heading(area, "Return on spend", "Revenue per unit spent, and its range among the averaged models")?;
    let bars: Vec<Bar> = report
        .channels
        .iter()
        .filter_map(|channel| {
            let value = channel.return_on_spend?;
            Some(Bar {
                name: &channel.channel,
                colour: colour(channel),
                value,
                range: channel.return_low.zip(channel.return_high),
                label: format!("{value:.2}"),
            })
        })
        .collect();
    bar_chart(area, &bars, "")
}

fn heading(area: &Area<'_>, title: &str, subtitle: &str) -> Drawn {
    let (left, top) = (28, 22);
    let bold = FontDesc::new(FontFamily::SansSerif, 22.0, FontStyle::Bold).color(&INK);
    area.draw(&Text::new(title.to_owned(), (left, top), anchored(bold, HPos::Left, VPos::Top))).map_err(failed)?;
    area.draw(&Text::new(subtitle.to_owned(), (left, top + 28), anchored(text(15, MUTED), HPos::Left, VPos::Top)))
        .map_err(failed)
}

/// One entry of the legend under the heading.
fn key(area: &Area<'_>, x: i32, colour: RGBColor, name: &str) -> Drawn {
    let y = 88;
    area.draw(&PathElement::new([(x, y), (x + 26, y)], colour.stroke_width(3))).map_err(failed)?;
    area.draw(&Text::new(name.to_owned(), (x + 34, y), anchored(text(15, INK), HPos::Left, VPos::Center)))
        .map_err(failed)
}

/// Text at a place that a chart gave, which counts from the corner of the whole canvas.
fn label(area: &Area<'_>, content: &str, (x, y): (i32, i32), style: TextStyle<'_>) -> Drawn {
    let (left, top) = area.get_base_pixel();
    area.draw(&Text::new(content.to_owned(), (x - left, y - top), style)).map_err(failed)
}

fn text(size: i32, colour: RGBColor) -> TextStyle<'static> {
    FontDesc::new(FontFamily::SansSerif, f64::from(size), FontStyle::Normal).color(&colour)
}

fn anchored(style: TextStyle<'_>, horizontal: HPos, vertical: VPos) -> TextStyle<'_> {
    style.pos(Pos::new(horizontal, vertical))
}

fn colour(channel: &ChannelResult) -> RGBColor {
    if channel.spend.is_some() { PAID } else { ORGANIC }
}

fn starts_half_year(weeks: &[WeeklyFit], index: usize) -> bool {
    let month = |index: usize| weeks[index].week.get(5..7);
    index > 0 && month(index) != month(index - 1) && matches!(month(index), Some("01" | "07"))
}

/// `Jan 2016` of `2016-01-04`.
fn month(date: &str) -> String {
    let name = if date.get(5..7) == Some("01") { "Jan" } else { "Jul" };
    format!("{name} {}", date.get(..4).unwrap_or_default())
}

fn failed(error: impl std::fmt::Display) -> ChartError {
    ChartError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dataset::SAMPLE, search::Settings, train::train};

    #[test]
    fn the_chart_shows_both_lines_and_every_channel_inside_its_canvas() {
        let settings = Settings { trials: 3, ..Settings::default() };
        let trained = train(SAMPLE, &settings, |_, _| ()).expect("the sample trains");
        let svg = draw(&trained.report, &trained.weeks).expect("draws");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for line in [ACTUAL, FITTED] {
            assert!(points_of(&svg, line) >= trained.weeks.len(), "{line:?} is not a line of all weeks");
        }
        for (name, limit) in [("x", SIZE.0), ("y", SIZE.1)] {
            for value in svg.split(&format!(" {name}=\"")).skip(1).filter_map(|rest| rest.split('"').next()) {
                let place: f64 = value.parse().expect("a number");
                assert!((0.0..=f64::from(limit)).contains(&place), "{name} of {place} is off the canvas");
            }
        }
        for channel in &trained.report.channels {
            assert!(svg.contains(&format!("\n{}\n", channel.channel)), "{} has no label", channel.channel);
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    /// Points of the longest line of a colour.
    fn points_of(svg: &str, colour: RGBColor) -> usize {
        let stroke = format!("stroke=\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2);
        let lines = svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(&stroke));
        lines.map(|line| line.matches(',').count()).max().unwrap_or(0)
    }
}
