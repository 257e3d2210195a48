//! `encircle run`: a Circle file on .npy inputs.

use super::artifact::{apart, open};
use super::artifact_args::RunArgs;
use super::terminal::{end_on_interrupt, stdout};
use super::{Outcome, Verdict};
use crate::checkpoint::read_within;
use crate::circle::{self, Format, Model, SubGraph, TensorType, WriteOptions};
use crate::pipeline;
use crate::quant::{self, QuantParams};
use crate::report::counted;
use crate::runtime::npy::{self, Array, Elements};
use crate::runtime::{self, EdgeError, Export, Form, Limits, Program};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

/// The longest .npy file believed, in bytes.
const ARRAY_MAX: u64 = 4 << 30;
/// The file of all edges.
const EDGES: &str = "edges.circle";

pub(super) fn run(args: &RunArgs) -> Outcome {
    end_on_interrupt()?;
    for folder in std::iter::once(&args.out).chain(&args.edges) {
        pipeline::check_folder(folder)?;
    }
    let place = args.file.display();
    let refused = |e: &dyn Error| format!("{place}: {e}");
    let model = open(&args.file)?.model;
    let mut arrays = Vec::with_capacity(args.input.len());
    for (name, path) in &args.input {
        arrays.push((name.clone(), read(path)?));
    }
    let graph = circle::find_graph(&model, args.graph.as_deref()).map_err(|e| refused(&e))?;
    let given = shapes(&model.subgraphs[graph], &arrays);
    let model = circle::resized(model, graph, &given).map_err(|e| refused(&e))?;
    let program =
        Program::of(&model, args.graph.as_deref(), Limits::default()).map_err(|e| refused(&e))?;
    if let Some(option) = on_integers(args)
        && !program.is_quantized()
    {
        let found = "found a file whose values are all float, expected one with integers";
        return Err(format!("{place}: {option}: {found}").into());
    }
    let how = Export { form: Form::Edges, format: Format::Circle, blocks: None };
    let edges = args.edges.as_ref().map(|folder| {
        let file = runtime::export(&circle::alone(&model, graph), how);
        file.map(|file| (folder, file)).map_err(|e| refused(&e))
    });
    let edges = edges.transpose()?;
    spares_its_inputs(args, &program, edges.as_ref().map(|(_, file)| file))?;
    let inputs = program.bind(arrays).map_err(|e| refused(&e))?;
    let outputs = match args.integer {
        true => program.run_integers(&inputs),
        false => program.run(&inputs).map(|outputs| program.reals(outputs)),
    }
    .map_err(|e| refused(&e))?;
    fs::create_dir_all(&args.out).map_err(|e| cannot_write(&args.out, e))?;
    let path = |i: usize| args.out.join(output(i));
    pipeline::save_all((0..).map(path).zip(outputs.iter().map(npy::write)))?;
    let mut stdout = stdout();
    for (i, (port, array)) in program.outputs().iter().zip(&outputs).enumerate() {
        writeln!(
            stdout,
            "wrote {}  {} {:?}  {}",
            path(i).display(),
            array.elements.descr(),
            array.shape,
            port.name.escape_debug()
        )?;
    }
    if let Some((folder, file)) = &edges {
        write_edges(file, &program, &inputs, folder).map_err(|e| refused(&*e))?;
    }
    if !args.audit {
        return Ok(Verdict::Fine);
    }
    let edges = program.audit(&inputs).map_err(|e| refused(&e))?;
    Ok(judge(&edges, &mut stdout)?)
}

fn input(i: usize) -> String {
    format!("in{i}.npy")
}

fn output(i: usize) -> String {
    format!("out{i}.npy")
}

/// Refuses results that would take the place of what is read, or of each other.
fn spares_its_inputs(
    args: &RunArgs,
    program: &Program,
    edges: Option<&Model>,
) -> Result<(), String> {
    let mut written: Vec<_> =
        (0..program.outputs().len()).map(|i| ("-o", args.out.join(output(i)))).collect();
    if let (Some(folder), Some(graph)) = (&args.edges, edges.and_then(|m| m.subgraphs.first())) {
        // A folder that is not there yet has no canonical path.
        let place = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
        if place(&args.out) == place(folder) {
            let folder = folder.display();
            return Err(format!("{folder}: --edges: found the folder of -o, expected another"));
        }
        let names = (0..graph.inputs.len()).map(input).chain((0..graph.outputs.len()).map(output));
        let names = names.chain(std::iter::once(EDGES.into()));
        written.extend(names.map(|name| ("--edges", folder.join(name))));
    }
    for read in std::iter::once(&args.file).chain(args.input.iter().map(|(_, path)| path)) {
        written.iter().try_for_each(|(option, written)| apart(read, written, option))?;
    }
    Ok(())
}

/// The first option that asks for what only integers have.
fn on_integers(args: &RunArgs) -> Option<&'static str> {
    let edges = args.edges.is_some();
    let asked = [("--integer", args.integer), ("--audit", args.audit), ("--edges", edges)];
    asked.into_iter().find_map(|(option, asked)| asked.then_some(option))
}

fn cannot_write(folder: &Path, e: std::io::Error) -> String {
    format!("{}: cannot write: {e}", folder.display())
}

/// The file of all edges, what it takes and what our integers make of it.
fn write_edges(
    file: &Model,
    program: &Program,
    inputs: &[Tensor],
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut reals: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut codes: BTreeMap<String, Array> = BTreeMap::new();
    // What nobody reads has no elements here, and is read by nobody there.
    let given = program.inputs().iter().zip(inputs).filter(|(_, tensor)| !tensor.is_empty());
    for (port, tensor) in given {
        let real = match &port.qparams {
            Some(params @ QuantParams::Affine { .. }) => {
                let codes = quant::quantize(params, tensor.shape(), tensor.data());
                Tensor::new(tensor.shape(), quant::dequantize(params, tensor.shape(), &codes))
            }
            _ => tensor.clone(),
        };
        reals.insert(port.name.clone(), real);
    }
    for (name, integers, tensor) in program.edges(inputs)? {
        codes.insert(format!("{name}.codes"), integers);
        reals.insert(name, tensor);
    }
    fs::create_dir_all(folder).map_err(|e| cannot_write(folder, e))?;
    pipeline::save(file, &WriteOptions::default(), &folder.join(EDGES))?;
    let graph = file.subgraphs.first().ok_or("has no graph")?;
    let missing = |name: &str| format!("no value \"{}\" was computed", name.escape_debug());
    let mut arrays = Vec::new();
    for (i, &index) in graph.inputs.iter().enumerate() {
        let port = graph.tensor(index).ok_or("has an input that is none")?;
        let idle = || program.inputs().iter().any(|given| given.name == port.name);
        let tensor = match reals.get(&port.name) {
            Some(tensor) => tensor.clone(),
            None if idle() => continue,
            None => return Err(missing(&port.name).into()),
        };
        let shape = tensor.shape().to_vec();
        let elements = match port.dtype {
            TensorType::Float32 => Elements::F32(tensor.into_data()),
            _ => Elements::I64(tensor.data().iter().map(|&x| x as i64).collect()),
        };
        let bytes = npy::write(&Array { shape, elements });
        arrays.push((folder.join(input(i)), bytes));
    }
    for (i, &index) in graph.outputs.iter().enumerate() {
        let name = graph.tensor(index).map_or("", |tensor| tensor.name.as_str());
        let array = codes.get(name).ok_or_else(|| missing(name))?;
        arrays.push((folder.join(output(i)), npy::write(array)));
    }
    Ok(pipeline::save_all(arrays)?)
}

/// The shapes of the arrays, by the tensors that they are for.
fn shapes(graph: &SubGraph, arrays: &[(String, Array)]) -> Vec<(i32, Vec<i32>)> {
    let shape = |(i, &index): (usize, &i32)| {
        let (name, number) = (&graph.tensor(index)?.name, i.to_string());
        let (_, array) = arrays.iter().find(|(given, _)| given == name || *given == number)?;
        let extents = array.shape.iter().map(|&n| i32::try_from(n).ok());
        Some((index, extents.collect::<Option<_>>()?))
    };
    graph.inputs.iter().enumerate().filter_map(shape).collect()
}

/// One line for the whole, and one for every edge that is more than a step apart.
fn judge(edges: &[EdgeError], out: &mut impl Write) -> std::io::Result<Verdict> {
    let worst = edges.iter().map(|edge| edge.steps_max).max().unwrap_or(0);
    let sum = |count: fn(&EdgeError) -> usize| edges.iter().map(count).sum::<usize>();
    let (differing, elements) = (sum(|e| e.differing), sum(|e| e.elements));
    writeln!(
        out,
        "audit: {}, {differing} of {elements} elements differ, at most {}",
        counted(edges.len(), "edge"),
        counted(worst as usize, "step")
    )?;
    for edge in edges.iter().filter(|edge| edge.steps_max > 1) {
        let (operator, name) = (edge.operator, edge.name.escape_debug());
        writeln!(out, "  {} steps  {operator}  {name}", edge.steps_max)?;
    }
    Ok(if worst > 1 { Verdict::Wanting } else { Verdict::Fine })
}

/// The array of a file. Errors name it.
pub(super) fn read(path: &Path) -> Result<Array, Box<dyn Error>> {
    let place = path.display();
    let refused = |e: std::io::Error| format!("{place}: cannot read: {e}");
    let bytes = read_within(path, ARRAY_MAX).map_err(refused)?;
    npy::read(&bytes).map_err(|e| format!("{place}: {e}").into())
}
