//! What people see.

use expect_test::{Expect, expect};

use super::sample::{PEER_BLOCK, PEER_LINEAR, small};
use crate::circle::*;

fn check(text: &str, expected: Expect) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "too wide: {line}");
        assert_eq!(line, line.trim_end());
    }
    expected.assert_eq(text);
}

#[test]
fn a_summary() {
    check(
        &summarize(&small(), "small.circle"),
        expect![[r#"
            small.circle
              version      0
              description  small
              graphs       1
              buffers      3, 48 bytes of payload

            graph 0 "main"
              tensors 6, of them constant 2; operators 3

              operators                             element types
              ADD                                1  UINT8              5  32 bytes
              FULLY_CONNECTED                    1  INT32              1  16 bytes
              SOFTMAX                            1

              inputs
                  0  x                                   UINT8 [1, 2, 8]           scale 0.5, zero point 128

              outputs
                  5  probabilities                       UINT8 [1, 2, 4]           scale 0.25, zero point 100
        "#]],
    );
}

#[test]
fn a_summary_of_a_peer_file() {
    check(
        &summarize(&read(PEER_LINEAR).unwrap(), "linear.q.circle"),
        expect![[r#"
            linear.q.circle
              version      0
              description  circle
              graphs       1
              buffers      3, 48 bytes of payload

            graph 0 "subgraph"
              tensors 4, of them constant 2; operators 1

              operators                             element types
              FULLY_CONNECTED                    1  UINT8              3  32 bytes
                                                    INT32              1  16 bytes

              inputs
                  2  tico::args_0                        UINT8 [3, 8]              scale 0.0219, zero point 132

              outputs
                  3  tico.quanti…ar.QuantLinear::linear  UINT8 [3, 4]              scale 0.00951, zero point 116
        "#]],
    );
}

#[test]
fn tensors() {
    check(
        &list_tensors(&small()),
        expect![[r#"
        graph 0 "main"
             0  x              UINT8 [1, 2, 8]
                scale 0.5, zero point 128
             1  layer.weight   UINT8 [4, 8]              32 bytes in buffer 1
                4 scales 0.1..0.4 along 0, zero point 3
             2  layer.bias     INT32 [4]                 16 bytes in buffer 2
                4 scales 0.05..0.2 along 0, zero point 0
             3  layer          UINT8 [1, 2, 4]
                scale 0.25, zero point 100
             4  sum            UINT8 [1, 2, 4]
                scale 0.25, zero point 100
             5  probabilities  UINT8 [1, 2, 4]
                scale 0.25, zero point 100
    "#]],
    );
}

#[test]
fn operators() {
    let part = extract(&read(PEER_BLOCK).unwrap(), 11..=17).unwrap();
    check(
        &list_operators(&part),
        expect![[r#"
        graph 0 "subgraph"
             0  SPLIT                     num_splits=2
                <-    11  const_tensor_3                                    INT32 []
                <-     2  __main__.B::mul                                   FLOAT32 [1, 6, 8]
                ->     3  __main__.B::getitem_3                             FLOAT32 [1, 6, 4]
                ->     4  __main__.B::getitem_4                             FLOAT32 [1, 6, 4]
             1  NEG
                <-     4  __main__.B::getitem_4                             FLOAT32 [1, 6, 4]
                ->     5  __main__.B::neg                                   FLOAT32 [1, 6, 4]
             2  CONCATENATION             axis=-1
                <-     5  __main__.B::neg                                   FLOAT32 [1, 6, 4]
                <-     3  __main__.B::getitem_3                             FLOAT32 [1, 6, 4]
                ->     6  __main__.B::cat                                   FLOAT32 [1, 6, 8]
             3  RESHAPE                   new_shape=[2,3,8]
                <-     6  __main__.B::cat                                   FLOAT32 [1, 6, 8]
                <-    12  const_tensor_4                                    INT32 [3]
                ->     7  __main__.B::reshape_default                       FLOAT32 [2, 3, 8]
             4  FULLY_CONNECTED           keep_num_dims=true
                <-     7  __main__.B::reshape_default                       FLOAT32 [2, 3, 8]
                <-     0  tico::p_b_weight                                  FLOAT32 [4, 8]
                <-     1  tico::p_b_bias                                    FLOAT32 [4]
                ->     8  torch.nn.modules.linear.Linear::linear_1          FLOAT32 [2, 3, 4]
             5  SOFTMAX                   beta=1.0
                <-     8  torch.nn.modules.linear.Linear::linear_1          FLOAT32 [2, 3, 4]
                ->     9  __main__.B::_softmax                              FLOAT32 [2, 3, 4]
             6  STRIDED_SLICE
                <-     6  __main__.B::cat                                   FLOAT32 [1, 6, 8]
                <-    13  const_tensor_5                                    INT32 [3]
                <-    14  const_tensor_6                                    INT32 [3]
                <-    15  const_tensor_7                                    INT32 [3]
                ->    10  __main__.B::slice_1                               FLOAT32 [1, 1, 8]
    "#]],
    );
}

#[test]
fn json() {
    let part = extract(&small(), 1..=1).unwrap();
    expect![[r#"
        {"buffers":[0],
        "description":"small","metadata":[],
        "operator_codes":[{"code":0,"custom_code":null,"operator":"ADD","version":1}],
        "signature_defs":[],
        "subgraphs":[{"inputs":[0],
        "name":"main","operators":[{"inputs":[0,0],
        "operator":"ADD","options":{"fused_activation":"NONE","pot_scale_int16":false},"outputs":[1]}],
        "outputs":[1],
        "tensors":[{"buffer":0,"name":"layer","payload_bytes":0,"quantization":{"quantized_dimension":0,"scale":[0.25],
        "zero_point":[100]},"shape":[1,2,4],
        "type":"UINT8"},{"buffer":0,"name":"sum","payload_bytes":0,"quantization":{"quantized_dimension":0,"scale":[0.25],
        "zero_point":[100]},"shape":[1,2,4],
        "type":"UINT8"}]}],
        "version":0}"#]].assert_eq(&to_json(&part).to_string().replace("],", "],\n"));
}

#[test]
fn json_tells_what_few_files_have() {
    let mut model = small();
    let graph = &mut model.subgraphs[0];
    let tensor = &mut graph.tensors[3];
    (tensor.is_variable, tensor.has_rank, tensor.compression_type) = (true, true, 1);
    let dims = vec![DimensionMetadata {
        format: 1,
        array_indices: SparseIndex::Uint8(vec![0, 2]),
        ..DimensionMetadata::default()
    }];
    tensor.sparsity = Some(Sparsity { dims, ..Sparsity::default() });
    graph.operators[1].custom_options = vec![7, 9];
    graph.operators[1].intermediates = vec![-1];
    let json = to_json(&model)["subgraphs"][0].take();
    let tensor = &json["tensors"][3];
    for (field, expected) in [
        ("is_variable", "true"),
        ("has_rank", "true"),
        ("compression_type", "1"),
        (
            "sparsity",
            r#"{"block_map":[],"dims":[{"array_indices":2,"array_segments":0,"dense_size":0,"format":1}],"traversal_order":[]}"#,
        ),
    ] {
        assert_eq!(tensor[field].to_string(), expected);
    }
    let operator = &json["operators"][1];
    assert_eq!(operator["custom_options"].to_string(), "[7,9]");
    assert_eq!(operator["intermediates"].to_string(), "[-1]");
}

#[test]
fn names_cannot_reach_the_terminal_raw() {
    let mut model = small();
    model.subgraphs[0].tensors[0].name = "\u{1b}[2J".repeat(30);
    assert!(!list_tensors(&model).contains('\u{1b}'));
    assert!(!summarize(&model, "x").contains('\u{1b}'));
}
