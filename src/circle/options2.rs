//! The second union of option tables (`BuiltinOptions2`), which the StableHLO operators use.

use super::cursor::Table;
use super::emit::{Fields, Node};
use super::error::Result;
use super::option_field::{Field, option_tables};

option_tables! {
    /// The option table of a StableHLO operator.
    Options2 {
        StablehloConcatenate = 1 "StablehloConcatenateOptions" { dimension: i64 = (0, 0) },
        StablehloBroadcastInDim = 2 "StablehloBroadcastInDimOptions" {
            broadcast_dimensions: Vec<i64> = (0, Vec::new()),
        },
        StablehloSlice = 3 "StablehloSliceOptions" {
            start_indices: Vec<i64> = (0, Vec::new()), limit_indices: Vec<i64> = (1, Vec::new()),
            strides: Vec<i64> = (2, Vec::new()),
        },
        StablehloConvolution = 4 "StablehloConvolutionOptions" {
            window_strides: Vec<i64> = (0, Vec::new()), padding: Vec<i64> = (1, Vec::new()),
            lhs_dilation: Vec<i64> = (2, Vec::new()), rhs_dilation: Vec<i64> = (3, Vec::new()),
            window_reversal: Vec<bool> = (4, Vec::new()), input_batch_dimension: i64 = (5, 0),
            input_feature_dimension: i64 = (6, 0), input_spatial_dimensions: Vec<i64> = (7, Vec::new()),
            kernel_input_feature_dimension: i64 = (8, 0), kernel_output_feature_dimension: i64 = (9, 0),
            kernel_spatial_dimensions: Vec<i64> = (10, Vec::new()),
            output_batch_dimension: i64 = (11, 0), output_feature_dimension: i64 = (12, 0),
            output_spatial_dimensions: Vec<i64> = (13, Vec::new()), feature_group_count: i64 = (14, 0),
            batch_group_count: i64 = (15, 0), precision_config: Vec<u32> = (16, Vec::new()),
        },
        StablehloCustomCall = 5 "StablehloCustomCallOptions" {
            call_target_name: String = (0, String::new()), has_side_effect: bool = (1, false),
            backend_config: String = (2, String::new()), api_version: i32 = (3, 0),
            called_computations: Vec<i32> = (4, Vec::new()),
            custom_attributes: Vec<u8> = (5, Vec::new()),
        },
        StablehloReduce = 6 "StablehloReduceOptions" {
            dimensions: Vec<i64> = (0, Vec::new()), body_subgraph_index: i32 = (1, 0),
        },
        StablehloScatter = 7 "StablehloScatterOptions" {
            indices_are_sorted: bool = (0, false), update_window_dims: Vec<i64> = (1, Vec::new()),
            inserted_window_dims: Vec<i64> = (2, Vec::new()),
            scatter_dims_to_operand_dims: Vec<i64> = (3, Vec::new()), index_vector_dim: i64 = (4, 0),
            unique_indices: bool = (5, false), update_computation_subgraph_index: i32 = (6, 0),
        },
        StablehloCompare = 8 "StablehloCompareOptions" {
            comparison_direction: u32 = (0, 0), compare_type: u32 = (1, 0),
        },
        StablehloDynamicSlice = 9 "StablehloDynamicSliceOptions" {
            slice_sizes: Vec<i64> = (0, Vec::new()),
        },
        StablehloPad = 10 "StablehloPadOptions" {
            edge_padding_low: Vec<i64> = (0, Vec::new()), edge_padding_high: Vec<i64> = (1, Vec::new()),
            interior_padding: Vec<i64> = (2, Vec::new()),
        },
        StablehloIota = 11 "StablehloIotaOptions" { iota_dimension: i64 = (0, 0) },
        StablehloDotGeneral = 12 "StablehloDotGeneralOptions" {
            lhs_batching_dimensions: Vec<i64> = (0, Vec::new()),
            rhs_batching_dimensions: Vec<i64> = (1, Vec::new()),
            lhs_contracting_dimensions: Vec<i64> = (2, Vec::new()),
            rhs_contracting_dimensions: Vec<i64> = (3, Vec::new()),
            precision_config: Vec<u32> = (4, Vec::new()),
        },
        StablehloReduceWindow = 13 "StablehloReduceWindowOptions" {
            window_dimensions: Vec<i64> = (0, Vec::new()), window_strides: Vec<i64> = (1, Vec::new()),
            base_dilations: Vec<i64> = (2, Vec::new()), window_dilations: Vec<i64> = (3, Vec::new()),
            padding: Vec<i64> = (4, Vec::new()), body_subgraph_index: i32 = (5, 0),
        },
        StablehloSort = 14 "StablehloSortOptions" {
            dimension: i64 = (0, 0), is_stable: bool = (1, false),
            comparator_subgraph_index: i32 = (2, 0),
        },
        StablehloWhile = 15 "StablehloWhileOptions" {
            cond_subgraph_index: i32 = (0, 0), body_subgraph_index: i32 = (1, 0),
        },
        StablehloGather = 16 "StablehloGatherOptions" {
            offset_dims: Vec<i64> = (0, Vec::new()), collapsed_slice_dims: Vec<i64> = (1, Vec::new()),
            start_index_map: Vec<i64> = (2, Vec::new()), index_vector_dim: i64 = (3, 0),
            slice_sizes: Vec<i64> = (4, Vec::new()), indices_are_sorted: bool = (5, false),
        },
        StablehloTranspose = 17 "StablehloTransposeOptions" { permutation: Vec<i64> = (0, Vec::new()) },
        Dilate = 18 "DilateOptions",
        StablehloRngBitGenerator = 19 "StablehloRngBitGeneratorOptions" { algorithm: i8 = (0, 0) },
        ReduceWindow = 20 "ReduceWindowOptions" { reduce_function: i32 = (0, 0) },
        StablehloComposite = 21 "StableHLOCompositeOptions" {
            name: String = (0, String::new()), decomposition_subgraph_index: i32 = (1, 0),
            composite_attributes: Vec<u8> = (2, Vec::new()), composite_attributes_format: i8 = (3, 0),
            version: i32 = (4, 0),
        },
        StablehloShiftLeft = 22 "StablehloShiftLeftOptions",
        StablehloCase = 23 "StablehloCaseOptions" {
            branch_subgraph_indices: Vec<i32> = (0, Vec::new()),
        },
    }
}
