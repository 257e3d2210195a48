//! The graph as text, for people and for snapshot tests.

use super::{Graph, Source};
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}", self.name)?;
        for &id in &self.inputs {
            let value = self.value(id);
            writeln!(f, "  input  {} {:?} {:?}", value.name, value.kind, value.shape)?;
        }
        for stage in &self.stages {
            writeln!(f, "  stage {}", stage.name)?;
            for node in &self.nodes[stage.nodes.clone()] {
                let out = self.value(node.output);
                write!(f, "    {} {:?} = {:?}(", out.name, out.shape, node.op)?;
                for (i, &input) in node.inputs.iter().enumerate() {
                    let mark = match self.value(input).source {
                        Source::Param(_) => "%",
                        Source::Const(_) => "#",
                        Source::Input | Source::Node(_) => "",
                    };
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{mark}{}", self.value(input).name)?;
                }
                writeln!(f, ")")?;
            }
        }
        for &id in &self.outputs {
            writeln!(f, "  output {} {:?}", self.value(id).name, self.value(id).shape)?;
        }
        Ok(())
    }
}
