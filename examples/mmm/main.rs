//! Trains a marketing-mix model on weekly data and writes its results.
#![allow(clippy::print_stdout, reason = "the report is what the program is for")]

mod calendar;
mod chart;
mod dataset;
mod design;
mod model;
mod random;
mod report;
mod ridge;
mod search;
mod train;

use std::{error::Error, fs, path::PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    search::Settings,
    train::{Trained, train},
};

const DATASET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/mmm/data/dt_simulated_weekly.csv");

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".anycloud/mmm".to_owned()));
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {eta} left")?);
    let Trained { report, model, weeks } = train(&fs::read(DATASET)?, &Settings::default(), |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
    fs::write(folder.join("model.json"), serde_json::to_vec_pretty(&model)?)?;
    fs::write(folder.join("chart.svg"), chart::draw(&report, &weeks)?)?;
    let mut rows = csv::Writer::from_path(folder.join("weeks.csv"))?;
    for week in &weeks {
        rows.serialize(week)?;
    }
    rows.flush()?;
    println!("{report}");
    println!("Results are in {}", folder.display());
    Ok(())
}
