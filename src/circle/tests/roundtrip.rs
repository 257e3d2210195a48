//! What is written is read back as it was, and written again as the same bytes.

use std::io::Write;

use proptest::prelude::*;

use super::sample::{PEER_BLOCK, PEER_LINEAR, any_model, small};
use crate::circle::*;

fn written(model: &Model, payloads: Payloads) -> Vec<u8> {
    let mut bytes = Vec::new();
    let how = WriteOptions { payloads, ..WriteOptions::default() };
    let size = write_with(model, &how, &mut bytes).unwrap();
    assert_eq!(size, bytes.len() as u64);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn reading_undoes_writing(model in any_model()) {
        for payloads in [Payloads::Inline, Payloads::Appended] {
            let bytes = written(&model, payloads);
            let again = read(&bytes).unwrap();
            prop_assert_eq!(&again, &model);
            prop_assert_eq!(written(&again, payloads), bytes);
        }
    }
}

/// The file as several hands put it together: payloads from the last to the first, then the tables.
fn put_together(model: &Model, payloads: Payloads) -> Vec<u8> {
    let how = WriteOptions { payloads, ..WriteOptions::default() };
    let placed = Placed::of(model, &how).unwrap();
    let mut file = vec![0; usize::try_from(placed.size()).unwrap()];
    let mut put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        file[at..at + bytes.len()].copy_from_slice(bytes);
    };
    for place in placed.places().iter().rev() {
        let mut bytes = Vec::new();
        model.buffers[place.buffer].write_to(&mut bytes).unwrap();
        put(place.data, &bytes);
        if let Some(count) = place.count {
            put(place.data - count.len() as u64, &count);
        }
    }
    put(0, &placed.tables(model, &how).unwrap());
    file
}

proptest! {
    #[test]
    fn payloads_put_in_their_places_make_the_file(model in any_model()) {
        for payloads in [Payloads::Inline, Payloads::Appended] {
            prop_assert_eq!(put_together(&model, payloads), written(&model, payloads));
        }
    }
}

#[test]
fn places_hold_for_grids_that_turn_out_to_be_alike() {
    let how = WriteOptions::default();
    let mut model = small();
    model.subgraphs[0].tensors[0].quantization = Some(Quantization::per_tensor(1.0, 5));
    model.subgraphs[0].tensors[1].quantization = Some(Quantization::per_tensor(2.0, 6));
    let placed = Placed::of(&model, &how).unwrap();
    let apart = placed.tables(&model, &how).unwrap();
    model.subgraphs[0].tensors[1].quantization = Some(Quantization::per_tensor(1.0, 5));
    let alike = placed.tables(&model, &how).unwrap();
    assert_eq!(alike.len(), apart.len(), "the room stays, whatever is in it");
    let placed = Placed::of(&model, &how).unwrap();
    model.subgraphs[0].tensors[1].quantization = Some(Quantization::per_tensor(2.0, 6));
    assert!(placed.tables(&model, &how).is_err(), "what needs more room is refused");
    model.add_buffer(Buffer::data(vec![1]));
    assert!(placed.tables(&model, &how).is_err(), "and so are other payloads");
}

#[test]
fn a_peer_file_survives_rewriting() {
    for peer in [PEER_LINEAR, PEER_BLOCK] {
        let model = read(peer).unwrap();
        let again = read(&to_bytes(&model).unwrap()).unwrap();
        assert_eq!(again, model);
        assert!(model.subgraphs[0].operators.iter().all(|op| model.builtin(op).is_some()));
    }
}

#[test]
fn payloads_are_aligned_to_16() {
    for payloads in [Payloads::Inline, Payloads::Appended] {
        let bytes = written(&small(), payloads);
        let at = bytes.windows(32).position(|w| w == [7; 32]).unwrap();
        assert_eq!(at % 16, 0, "{payloads:?}");
    }
}

#[test]
fn every_option_table_survives() {
    for id in 0..=u8::MAX {
        let Some(options) = Options::with_defaults(id) else { continue };
        let mut model = small();
        model.subgraphs[0].operators[0].options = options.clone();
        let again = read(&to_bytes(&model).unwrap()).unwrap();
        assert_eq!(again.subgraphs[0].operators[0].options, options);
    }
}

#[test]
fn tflite_has_its_own_numbers() {
    let mut model = small();
    model.subgraphs[0].tensors[1].dtype = TensorType::Uint4;
    let how = WriteOptions { format: Format::TfLite, ..WriteOptions::default() };
    let mut bytes = Vec::new();
    write_with(&model, &how, &mut bytes).unwrap();
    assert_eq!(&bytes[4..8], b"TFL3");
    let again = read(&bytes).unwrap();
    assert_eq!((again.version, again.subgraphs[0].tensors[1].dtype), (3, TensorType::Uint4));

    model.opcode(BuiltinOperator::RmsNorm);
    let error = write_with(&model, &how, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "operator_codes[3]: TFLite has no operator RMS_NORM");
}

#[test]
fn a_source_is_held_to_its_length() {
    for (len, written) in [(3u64, 2usize), (3, 4)] {
        let mut model = small();
        model.buffers[1] = Buffer::lazy(len, move |out| out.write_all(&vec![1; written]));
        let error = to_bytes(&model).unwrap_err();
        assert_eq!(error.at(), "buffers[1]");
        let expected = ErrorKind::PayloadLength { declared: len, written: written as u64 };
        assert_eq!(error.kind(), &expected);
    }
}

/// Refuses to hold what it is given, so that gigabytes can be written in a test.
struct Sink(u64);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn two_gibibytes_are_too_many_unless_appended() {
    let huge = 3u64 << 30;
    let mut model = small();
    let chunk = vec![0u8; 1 << 20];
    model.buffers[1] =
        Buffer::lazy(huge, move |out| (0..3 << 10).try_for_each(|_| out.write_all(&chunk)));
    let mut sink = Sink(0);
    let error = write(&model, &mut sink).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { needed, .. } if *needed > huge));
    assert_eq!(sink.0, 0, "refused before anything was written");

    let how = WriteOptions { payloads: Payloads::Appended, ..WriteOptions::default() };
    let size = write_with(&model, &how, &mut sink).unwrap();
    assert!(size > huge && sink.0 == size);
}

#[test]
fn the_work_limit_spares_the_densest_honest_file() {
    let model = Model { buffers: vec![Buffer::Empty; 100_000], ..small() };
    assert_eq!(read(&to_bytes(&model).unwrap()).unwrap().buffers.len(), 100_000);
}
