//! `retinanet data`: one file a command.

pub(crate) mod convert;
pub(crate) mod preview;

use crate::Status;
use crate::args::DataCommand;

pub(crate) fn run(command: &DataCommand) -> anyhow::Result<Status> {
    match command {
        DataCommand::Convert(args) => convert::run(args),
        DataCommand::Preview(args) => preview::run(args),
    }
}
