//! Where the gradients of parameters are read.

use candle_core::{Result, Var, backprop::GradStore};
use retinanet_ops::network::training::Gradients;

/// Gradients of a model's parameters: those of a training session, by name, or candle's, by variable.
pub trait ParameterGradients {
    /// Calls `read` with the gradient of a parameter, unless it has none.
    ///
    /// # Errors
    /// The gradient is not f32 on the CPU, or what `read` says.
    fn read(&self, name: &str, variable: &Var, read: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>;

    /// Multiplies the gradient of a parameter by a factor, unless it has none.
    ///
    /// # Errors
    /// The gradient cannot be changed.
    fn scale(&mut self, name: &str, variable: &Var, factor: f64) -> Result<()>;
}

impl ParameterGradients for Gradients {
    fn read(&self, name: &str, _variable: &Var, read: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.get(name).map_or(Ok(()), read)
    }

    fn scale(&mut self, name: &str, _variable: &Var, factor: f64) -> Result<()> {
        let gradient = self.get_mut(name).into_iter().flatten();
        gradient.for_each(|gradient| *gradient *= factor as f32);
        Ok(())
    }
}

impl ParameterGradients for GradStore {
    fn read(&self, _name: &str, variable: &Var, read: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        match self.get(variable) {
            Some(gradient) => read(&gradient.flatten_all()?.to_vec1::<f32>()?),
            None => Ok(()),
        }
    }

    fn scale(&mut self, _name: &str, variable: &Var, factor: f64) -> Result<()> {
        if let Some(gradient) = self.remove(variable) {
            self.insert(variable, (gradient * factor)?);
        }
        Ok(())
    }
}
