//! `retinanet data`: one file a command.

pub(crate) mod convert;

use crate::Status;
use crate::args::DataCommand;

pub(crate) fn run(command: &DataCommand) -> anyhow::Result<Status> {
    match command {
        DataCommand::Convert(args) => convert::run(args),
    }
}
