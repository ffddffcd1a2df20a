//! `retinanet data`: one file a command.

mod check;
pub(crate) mod convert;

use crate::Status;
use crate::args::DataCommand;

pub(crate) fn run(command: &DataCommand) -> anyhow::Result<Status> {
    match command {
        DataCommand::Convert(args) => convert::run(args),
        DataCommand::Check(args) => check::run(args),
    }
}
