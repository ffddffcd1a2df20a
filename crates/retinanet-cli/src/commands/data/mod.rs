//! `retinanet data`: one file a command.

mod check;
mod convert;
mod preview;

use crate::Status;
use crate::args::DataCommand;

pub(crate) fn run(command: &DataCommand) -> anyhow::Result<Status> {
    match command {
        DataCommand::Convert(args) => convert::run(args),
        DataCommand::Preview(args) => preview::run(args),
        DataCommand::Check(args) => check::run(args),
    }
}
