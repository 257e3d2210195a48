//! The option tables of operators (`BuiltinOptions`): every field with its slot and the value that
//! a file means by leaving it out.

use super::cursor::Table;
use super::emit::{Fields, Node};
use super::error::Result;
use super::operator::BuiltinOperator;
use super::option_field::{Field, option_tables};
use super::types::{Activation, Padding, TensorType};

impl Options {
    /// The table that belongs to an operator, with the values that loaders expect of a plain use:
    /// the schema's defaults, but `beta` 1, strides 1, `keep_num_dims` and `keep_dims` true, no
    /// power-of-two scales.
    pub fn of(operator: BuiltinOperator) -> Self {
        let id = operator.options_type().unwrap_or(0);
        let mut options = Self::with_defaults(id).unwrap_or_default();
        match &mut options {
            Self::Softmax { beta } => *beta = 1.0,
            Self::FullyConnected { keep_num_dims, .. } => *keep_num_dims = true,
            Self::Reducer { keep_dims } => *keep_dims = true,
            Self::Add { pot_scale_int16, .. } | Self::Sub { pot_scale_int16, .. } => {
                *pot_scale_int16 = false;
            }
            Self::Conv2d { stride_w, stride_h, .. }
            | Self::DepthwiseConv2d { stride_w, stride_h, .. }
            | Self::Pool2d { stride_w, stride_h, .. }
            | Self::TransposeConv { stride_w, stride_h, .. } => (*stride_w, *stride_h) = (1, 1),
            _ => {}
        }
        options
    }
}

option_tables! {
    /// The option table of an operator.
    Options {
        Conv2d = 1 "Conv2DOptions" {
            padding: Padding = (0, Padding::Same), stride_w: i32 = (1, 0), stride_h: i32 = (2, 0),
            fused_activation: Activation = (3, Activation::None), dilation_w_factor: i32 = (4, 1),
            dilation_h_factor: i32 = (5, 1), quantized_bias_type: TensorType = (6, TensorType::Float32),
        },
        DepthwiseConv2d = 2 "DepthwiseConv2DOptions" {
            padding: Padding = (0, Padding::Same), stride_w: i32 = (1, 0), stride_h: i32 = (2, 0),
            depth_multiplier: i32 = (3, 0), fused_activation: Activation = (4, Activation::None),
            dilation_w_factor: i32 = (5, 1), dilation_h_factor: i32 = (6, 1),
        },
        ConcatEmbeddings = 3 "ConcatEmbeddingsOptions" {
            num_channels: i32 = (0, 0), num_columns_per_channel: Vec<i32> = (1, Vec::new()),
            embedding_dim_per_channel: Vec<i32> = (2, Vec::new()),
        },
        LshProjection = 4 "LSHProjectionOptions" { projection_type: i8 = (0, 0) },
        Pool2d = 5 "Pool2DOptions" {
            padding: Padding = (0, Padding::Same), stride_w: i32 = (1, 0), stride_h: i32 = (2, 0),
            filter_width: i32 = (3, 0), filter_height: i32 = (4, 0),
            fused_activation: Activation = (5, Activation::None),
        },
        Svdf = 6 "SVDFOptions" {
            rank: i32 = (0, 0), fused_activation: Activation = (1, Activation::None),
            asymmetric_quantize_inputs: bool = (2, false),
        },
        Rnn = 7 "RNNOptions" {
            fused_activation: Activation = (0, Activation::None),
            asymmetric_quantize_inputs: bool = (1, false),
        },
        FullyConnected = 8 "FullyConnectedOptions" {
            fused_activation: Activation = (0, Activation::None), weights_format: i8 = (1, 0),
            keep_num_dims: bool = (2, false), asymmetric_quantize_inputs: bool = (3, false),
            quantized_bias_type: TensorType = (4, TensorType::Float32),
        },
        Softmax = 9 "SoftmaxOptions" { beta: f32 = (0, 0.0) },
        Concatenation = 10 "ConcatenationOptions" {
            axis: i32 = (0, 0), fused_activation: Activation = (1, Activation::None),
        },
        Add = 11 "AddOptions" {
            fused_activation: Activation = (0, Activation::None), pot_scale_int16: bool = (1, true),
        },
        L2Norm = 12 "L2NormOptions" { fused_activation: Activation = (0, Activation::None) },
        LocalResponseNormalization = 13 "LocalResponseNormalizationOptions" {
            radius: i32 = (0, 0), bias: f32 = (1, 0.0), alpha: f32 = (2, 0.0), beta: f32 = (3, 0.0),
        },
        Lstm = 14 "LSTMOptions" {
            fused_activation: Activation = (0, Activation::None), cell_clip: f32 = (1, 0.0),
            proj_clip: f32 = (2, 0.0), kernel_type: i8 = (3, 0),
            asymmetric_quantize_inputs: bool = (4, false),
        },
        ResizeBilinear = 15 "ResizeBilinearOptions" {
            align_corners: bool = (2, false), half_pixel_centers: bool = (3, false),
        },
        Call = 16 "CallOptions" { subgraph: u32 = (0, 0) },
        Reshape = 17 "ReshapeOptions" { new_shape: Vec<i32> = (0, Vec::new()) },
        SkipGram = 18 "SkipGramOptions" {
            ngram_size: i32 = (0, 0), max_skip_size: i32 = (1, 0),
            include_all_ngrams: bool = (2, false),
        },
        SpaceToDepth = 19 "SpaceToDepthOptions" { block_size: i32 = (0, 0) },
        EmbeddingLookupSparse = 20 "EmbeddingLookupSparseOptions" { combiner: i8 = (0, 0) },
        Mul = 21 "MulOptions" { fused_activation: Activation = (0, Activation::None) },
        Pad = 22 "PadOptions",
        Gather = 23 "GatherOptions" { axis: i32 = (0, 0), batch_dims: i32 = (1, 0) },
        BatchToSpaceNd = 24 "BatchToSpaceNDOptions",
        SpaceToBatchNd = 25 "SpaceToBatchNDOptions",
        Transpose = 26 "TransposeOptions",
        Reducer = 27 "ReducerOptions" { keep_dims: bool = (0, false) },
        Sub = 28 "SubOptions" {
            fused_activation: Activation = (0, Activation::None), pot_scale_int16: bool = (1, true),
        },
        Div = 29 "DivOptions" { fused_activation: Activation = (0, Activation::None) },
        Squeeze = 30 "SqueezeOptions" { squeeze_dims: Vec<i32> = (0, Vec::new()) },
        SequenceRnn = 31 "SequenceRNNOptions" {
            time_major: bool = (0, false), fused_activation: Activation = (1, Activation::None),
            asymmetric_quantize_inputs: bool = (2, false),
        },
        StridedSlice = 32 "StridedSliceOptions" {
            begin_mask: i32 = (0, 0), end_mask: i32 = (1, 0), ellipsis_mask: i32 = (2, 0),
            new_axis_mask: i32 = (3, 0), shrink_axis_mask: i32 = (4, 0), offset: bool = (5, false),
        },
        Exp = 33 "ExpOptions",
        TopkV2 = 34 "TopKV2Options",
        Split = 35 "SplitOptions" { num_splits: i32 = (0, 0) },
        LogSoftmax = 36 "LogSoftmaxOptions",
        Cast = 37 "CastOptions" {
            in_data_type: TensorType = (0, TensorType::Float32),
            out_data_type: TensorType = (1, TensorType::Float32),
        },
        Dequantize = 38 "DequantizeOptions",
        MaximumMinimum = 39 "MaximumMinimumOptions",
        ArgMax = 40 "ArgMaxOptions" { output_type: TensorType = (0, TensorType::Float32) },
        Less = 41 "LessOptions",
        Neg = 42 "NegOptions",
        PadV2 = 43 "PadV2Options",
        Greater = 44 "GreaterOptions",
        GreaterEqual = 45 "GreaterEqualOptions",
        LessEqual = 46 "LessEqualOptions",
        Select = 47 "SelectOptions",
        Slice = 48 "SliceOptions",
        TransposeConv = 49 "TransposeConvOptions" {
            padding: Padding = (0, Padding::Same), stride_w: i32 = (1, 0), stride_h: i32 = (2, 0),
            fused_activation: Activation = (3, Activation::None),
            quantized_bias_type: TensorType = (4, TensorType::Float32),
        },
        SparseToDense = 50 "SparseToDenseOptions" { validate_indices: bool = (0, false) },
        Tile = 51 "TileOptions",
        ExpandDims = 52 "ExpandDimsOptions",
        Equal = 53 "EqualOptions",
        NotEqual = 54 "NotEqualOptions",
        Shape = 55 "ShapeOptions" { out_type: TensorType = (0, TensorType::Float32) },
        Pow = 56 "PowOptions",
        ArgMin = 57 "ArgMinOptions" { output_type: TensorType = (0, TensorType::Float32) },
        FakeQuant = 58 "FakeQuantOptions" {
            min: f32 = (0, 0.0), max: f32 = (1, 0.0), num_bits: i32 = (2, 0),
            narrow_range: bool = (3, false),
        },
        Pack = 59 "PackOptions" { values_count: i32 = (0, 0), axis: i32 = (1, 0) },
        LogicalOr = 60 "LogicalOrOptions",
        OneHot = 61 "OneHotOptions" { axis: i32 = (0, 0) },
        LogicalAnd = 62 "LogicalAndOptions",
        LogicalNot = 63 "LogicalNotOptions",
        Unpack = 64 "UnpackOptions" { num: i32 = (0, 0), axis: i32 = (1, 0) },
        FloorDiv = 65 "FloorDivOptions",
        Square = 66 "SquareOptions",
        ZerosLike = 67 "ZerosLikeOptions",
        Fill = 68 "FillOptions",
        BidirectionalSequenceLstm = 69 "BidirectionalSequenceLSTMOptions" {
            fused_activation: Activation = (0, Activation::None), cell_clip: f32 = (1, 0.0),
            proj_clip: f32 = (2, 0.0), merge_outputs: bool = (3, false), time_major: bool = (4, true),
            asymmetric_quantize_inputs: bool = (5, false),
        },
        BidirectionalSequenceRnn = 70 "BidirectionalSequenceRNNOptions" {
            time_major: bool = (0, false), fused_activation: Activation = (1, Activation::None),
            merge_outputs: bool = (2, false), asymmetric_quantize_inputs: bool = (3, false),
        },
        UnidirectionalSequenceLstm = 71 "UnidirectionalSequenceLSTMOptions" {
            fused_activation: Activation = (0, Activation::None), cell_clip: f32 = (1, 0.0),
            proj_clip: f32 = (2, 0.0), time_major: bool = (3, false),
            asymmetric_quantize_inputs: bool = (4, false),
            diagonal_recurrent_tensors: bool = (5, false),
        },
        FloorMod = 72 "FloorModOptions",
        Range = 73 "RangeOptions",
        ResizeNearestNeighbor = 74 "ResizeNearestNeighborOptions" {
            align_corners: bool = (0, false), half_pixel_centers: bool = (1, false),
        },
        LeakyRelu = 75 "LeakyReluOptions" { alpha: f32 = (0, 0.0) },
        SquaredDifference = 76 "SquaredDifferenceOptions",
        MirrorPad = 77 "MirrorPadOptions" { mode: i8 = (0, 0) },
        Abs = 78 "AbsOptions",
        SplitV = 79 "SplitVOptions" { num_splits: i32 = (0, 0) },
        Unique = 80 "UniqueOptions" { idx_out_type: TensorType = (0, TensorType::Int32) },
        ReverseV2 = 81 "ReverseV2Options",
        AddN = 82 "AddNOptions",
        GatherNd = 83 "GatherNdOptions",
        Cos = 84 "CosOptions",
        Where = 85 "WhereOptions",
        Rank = 86 "RankOptions",
        ReverseSequence = 87 "ReverseSequenceOptions" {
            seq_dim: i32 = (0, 0), batch_dim: i32 = (1, 0),
        },
        MatrixDiag = 88 "MatrixDiagOptions",
        Quantize = 89 "QuantizeOptions",
        MatrixSetDiag = 90 "MatrixSetDiagOptions",
        HardSwish = 91 "HardSwishOptions",
        If = 92 "IfOptions" { then_subgraph_index: i32 = (0, 0), else_subgraph_index: i32 = (1, 0) },
        While = 93 "WhileOptions" {
            cond_subgraph_index: i32 = (0, 0), body_subgraph_index: i32 = (1, 0),
        },
        DepthToSpace = 94 "DepthToSpaceOptions" { block_size: i32 = (0, 0) },
        NonMaxSuppressionV4 = 95 "NonMaxSuppressionV4Options",
        NonMaxSuppressionV5 = 96 "NonMaxSuppressionV5Options",
        ScatterNd = 97 "ScatterNdOptions",
        SelectV2 = 98 "SelectV2Options",
        Densify = 99 "DensifyOptions",
        SegmentSum = 100 "SegmentSumOptions",
        BatchMatMul = 101 "BatchMatMulOptions" {
            adjoint_lhs: bool = (0, false), adjoint_rhs: bool = (1, false),
            asymmetric_quantize_inputs: bool = (2, false),
        },
        Cumsum = 102 "CumsumOptions" { exclusive: bool = (0, false), reverse: bool = (1, false) },
        CallOnce = 103 "CallOnceOptions" { init_subgraph_index: i32 = (0, 0) },
        BroadcastTo = 104 "BroadcastToOptions",
        Rfft2d = 105 "Rfft2dOptions",
        Conv3d = 106 "Conv3DOptions" {
            padding: Padding = (0, Padding::Same), stride_d: i32 = (1, 0), stride_w: i32 = (2, 0),
            stride_h: i32 = (3, 0), fused_activation: Activation = (4, Activation::None),
            dilation_d_factor: i32 = (5, 1), dilation_w_factor: i32 = (6, 1),
            dilation_h_factor: i32 = (7, 1),
        },
        Hashtable = 107 "HashtableOptions" {
            table_id: i32 = (0, 0), key_dtype: TensorType = (1, TensorType::Float32),
            value_dtype: TensorType = (2, TensorType::Float32),
        },
        HashtableFind = 108 "HashtableFindOptions",
        HashtableImport = 109 "HashtableImportOptions",
        HashtableSize = 110 "HashtableSizeOptions",
        VarHandle = 111 "VarHandleOptions" {
            container: String = (0, String::new()), shared_name: String = (1, String::new()),
        },
        ReadVariable = 112 "ReadVariableOptions",
        AssignVariable = 113 "AssignVariableOptions",
        Random = 114 "RandomOptions" { seed: i64 = (0, 0), seed2: i64 = (1, 0) },
        Bucketize = 115 "BucketizeOptions" { boundaries: Vec<f32> = (0, Vec::new()) },
        Gelu = 116 "GeluOptions" { approximate: bool = (0, false) },
        DynamicUpdateSlice = 117 "DynamicUpdateSliceOptions",
        UnsortedSegmentProd = 118 "UnsortedSegmentProdOptions",
        UnsortedSegmentMax = 119 "UnsortedSegmentMaxOptions",
        UnsortedSegmentMin = 120 "UnsortedSegmentMinOptions",
        UnsortedSegmentSum = 121 "UnsortedSegmentSumOptions",
        Atan2 = 122 "ATan2Options",
        Sign = 123 "SignOptions",
        Bitcast = 124 "BitcastOptions",
        BitwiseXor = 125 "BitwiseXorOptions",
        RightShift = 126 "RightShiftOptions",
        Attention = 247 "AttentionOptions",
        RunModel = 248 "RunModelOptions" {
            location: String = (0, String::new()), signature: String = (1, String::new()),
        },
        Rope = 249 "RoPEOptions" { mode: i32 = (0, 0) },
        RmsNorm = 250 "RmsNormOptions" { epsilon: f32 = (0, 0.0) },
        Gru = 251 "GRUOptions" {
            fused_activation: Activation = (0, Activation::None), return_sequences: bool = (1, false),
            time_major: bool = (2, false),
        },
        BcqGather = 252 "BCQGatherOptions" { input_hidden_size: i32 = (0, 0), axis: i32 = (1, 0) },
        BcqFullyConnected = 253 "BCQFullyConnectedOptions" {
            weights_hidden_size: i32 = (0, 0), fused_activation: Activation = (1, Activation::None),
        },
        InstanceNorm = 254 "InstanceNormOptions" {
            epsilon: f32 = (0, 0.0), fused_activation: Activation = (1, Activation::None),
        },
    }
}
