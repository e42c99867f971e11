//! Faults that are injected on purpose.

use std::time::Duration;

use ir::{Fault, FaultAbort, FaultAnswer, FaultDelay, FaultHeader};

use crate::report::{Field, Lines, Refused};
use crate::value;

/// The longest wait.
const DELAY_MAX: Duration = Duration::from_mins(1);

/// The fault of a filter.
pub(crate) fn fault(spec: &api::Fault, field: Field<'_>, lines: &mut Lines) -> Result<Fault, Refused> {
    if spec.delay.is_none() && spec.abort.is_none() {
        let message = "the fault does nothing; the rule answers 500";
        return Err(lines.error(field, message, "set delay or abort"));
    }
    let header = spec.header.as_ref().map(|header| {
        let name = value::header_name(&header.name, field.key("header").key("name"), lines)?;
        Ok(FaultHeader { name, value: header.value.clone() })
    });
    let delay = spec.delay.as_ref().map(|delay| self::delay(delay, field.key("delay"), lines));
    let abort = spec.abort.as_ref().map(|abort| self::abort(abort, field.key("abort"), lines));
    Ok(Fault { header: header.transpose()?, delay: delay.transpose()?, abort: abort.transpose()? })
}

fn delay(spec: &api::FaultDelay, field: Field<'_>, lines: &mut Lines) -> Result<FaultDelay, Refused> {
    let duration = spec.duration.get();
    if duration.is_zero() {
        let message = "a delay of no time does nothing; the rule answers 500";
        return Err(lines.error(field.key("duration"), message, "write 1ms to 1m"));
    }
    if duration > DELAY_MAX {
        lines.warning(field.key("duration"), "the delay is taken as 1m", "write 1ms to 1m");
    }
    Ok(FaultDelay { duration: duration.min(DELAY_MAX), percent: percent(spec.percent, field, lines) })
}

fn abort(spec: &api::FaultAbort, field: Field<'_>, lines: &mut Lines) -> Result<FaultAbort, Refused> {
    let answer = match (spec.status_code, spec.grpc_status) {
        (Some(status), None) if (200..=599).contains(&status) => FaultAnswer::Status(status),
        (None, Some(status)) if (1..=16).contains(&status) => FaultAnswer::Grpc(status),
        (Some(_), None) => {
            let message = "that is no status to answer with; the rule answers 500";
            return Err(lines.error(field.key("statusCode"), message, "write 200 to 599"));
        }
        (None, Some(_)) => {
            let message = "that is no status of gRPC; the rule answers 500";
            return Err(lines.error(field.key("grpcStatus"), message, "write 1 to 16"));
        }
        (Some(_), Some(_)) | (None, None) => {
            let message = "exactly one of statusCode and grpcStatus must be set; the rule answers 500";
            return Err(lines.error(field, message, "keep one of them"));
        }
    };
    Ok(FaultAbort { answer, percent: percent(spec.percent, field, lines) })
}

fn percent(percent: u8, field: Field<'_>, lines: &mut Lines) -> u8 {
    if percent > 100 {
        lines.warning(field.key("percent"), "percent is taken as 100", "write 0 to 100");
    }
    percent.min(100)
}
