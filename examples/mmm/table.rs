//! The channels' results as columns.

use std::sync::Arc;

use anycloud::formats::parquet::RecordBatch;
use anycloud::formats::parquet::arrow_array::{ArrayRef, Float64Array, StringArray};

use crate::Failure;
use crate::report::{ChannelResult, TrainingReport};

/// One row per channel; what an organic channel does not have is null.
pub(crate) fn channels(report: &TrainingReport) -> Result<RecordBatch, Failure> {
    let column = |value: fn(&ChannelResult) -> Option<f64>| -> ArrayRef {
        Arc::new(report.channels.iter().map(value).collect::<Float64Array>())
    };
    let names: StringArray = report.channels.iter().map(|channel| Some(channel.channel.as_str())).collect();
    let columns: [(&str, ArrayRef, bool); 7] = [
        ("channel", Arc::new(names), false),
        ("spend", column(|channel| channel.spend), true),
        ("contribution", column(|channel| Some(channel.contribution)), false),
        ("share", column(|channel| Some(channel.share)), false),
        ("return_on_spend", column(|channel| channel.return_on_spend), true),
        ("return_low", column(|channel| channel.return_low), true),
        ("return_high", column(|channel| channel.return_high), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}
