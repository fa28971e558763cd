//! Images, volumes and sound.

use super::Creature;
use super::builder::{At, Build};
use joulefront::tensor::DType::F32;

pub(super) fn family() -> Vec<Creature> {
    vec![
        unet(),
        transposed_convolutions(),
        volume(),
        sound(),
        same_padding(),
        resized(),
        resized_to_a_skip(),
        pooling(),
        pixel_shuffle(),
        channel_shuffle(),
        group_norm(),
        mobile_block(),
        heads_of_a_detector(),
    ]
}

fn unet() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("image", "N=1,3,8,8");
    let skip = b.conv(&x, 3, 6, 1);
    let skip = b.relu(&skip);
    let down = b.node("MaxPool", &[&skip], &[("kernel_shape", At::Is(&[2, 2])), ("strides", At::Is(&[2, 2]))]);
    let y = b.conv(&down, 6, 12, 1);
    let y = b.relu(&y);
    let (w, bias) = (b.weight(&[12, 6, 2, 2]), b.weight(&[6]));
    let up = b.node("ConvTranspose", &[&y, &w, &bias], &[("strides", At::Is(&[2, 2])), ("kernel_shape", At::Is(&[2, 2]))]);
    let y = b.node("Concat", &[&up, &skip], &[("axis", At::I(1))]);
    let y = b.conv(&y, 12, 2, 1);
    b.creature("U-Net", &[(&y, F32, "N,2,8,8")])
}

/// Groups, dilations, padding on one side, `output_padding`, `output_shape`, and one dimension.
fn transposed_convolutions() -> Creature {
    let mut b = Build::bare(11);
    let x = b.input("x", "N=2,4,5,5");
    let (w, bias) = (b.weight(&[4, 3, 3, 3]), b.weight(&[6]));
    let attributes = [
        ("group", At::I(2)),
        ("strides", At::Is(&[2, 3])),
        ("pads", At::Is(&[1, 0, 0, 2])),
        ("output_padding", At::Is(&[1, 2])),
        ("dilations", At::Is(&[2, 1])),
    ];
    let y = b.node("ConvTranspose", &[&x, &w, &bias], &attributes);
    let w = b.weight(&[6, 2, 2, 2]);
    let y = b.node("ConvTranspose", &[&y, &w], &[("output_shape", At::Is(&[26, 30])), ("strides", At::Is(&[2, 2]))]);
    let y = b.node("AveragePool", &[&y], &[("kernel_shape", At::Is(&[4, 5])), ("strides", At::Is(&[4, 5]))]);
    let x = b.input("line", "N=2,3,6");
    let w = b.weight(&[3, 2, 4]);
    let z = b.node("ConvTranspose", &[&x, &w], &[("strides", At::Is(&[3])), ("auto_pad", At::S("SAME_UPPER"))]);
    b.creature("transposed convolutions", &[(&y, F32, "N,2,6,6"), (&z, F32, "N,2,18")])
}

fn volume() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("volume", "N=2,2,4,6,6");
    let (w, bias) = (b.weight(&[6, 2, 3, 3, 3]), b.weight(&[6]));
    let y = b.node("Conv", &[&x, &w, &bias], &[("pads", At::Is(&[1; 6]))]);
    let y = b.batch_norm(&y, 6);
    let y = b.relu(&y);
    let y = b.node("MaxPool", &[&y], &[("kernel_shape", At::Is(&[2; 3])), ("strides", At::Is(&[2; 3]))]);
    let w = b.weight(&[6, 3, 2, 1, 2]);
    let y = b.node("Conv", &[&y, &w], &[("group", At::I(2)), ("strides", At::Is(&[1, 2, 1]))]);
    let y = b.classes(&y, 6);
    b.creature("volume", &[(&y, F32, "N,4")])
}

/// Strided and dilated one-dimensional convolutions over a length that is free.
fn sound() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("wave", "N=2,1,T=90");
    let (w, bias) = (b.weight(&[8, 1, 9]), b.weight(&[8]));
    let y = b.node("Conv", &[&x, &w, &bias], &[("strides", At::Is(&[4])), ("pads", At::Is(&[4, 4]))]);
    let y = b.node("LeakyRelu", &[&y], &[("alpha", At::F(0.1))]);
    let w = b.weight(&[8, 1, 3]);
    let z = b.node("Conv", &[&y, &w], &[("group", At::I(8)), ("dilations", At::Is(&[2])), ("pads", At::Is(&[2, 2]))]);
    let y = b.node("Add", &[&y, &z], &[]);
    let y = b.node("AveragePool", &[&y], &[("kernel_shape", At::Is(&[3])), ("strides", At::Is(&[2])), ("ceil_mode", At::I(1))]);
    let y = b.node("GlobalMaxPool", &[&y], &[]);
    let y = b.node("Flatten", &[&y], &[]);
    let y = b.gemm(&y, 8, 3, true);
    b.creature("sound of any length", &[(&y, F32, "N,3")])
}

fn same_padding() -> Creature {
    let mut b = Build::bare(13);
    let mut y = b.input("x", "N=2,3,7,9");
    for (auto_pad, stride) in [("SAME_UPPER", 2), ("SAME_LOWER", 2), ("VALID", 1)] {
        let w = b.weight(&[3, 3, 2, 2]);
        y = b.node("Conv", &[&y, &w], &[("auto_pad", At::S(auto_pad)), ("strides", At::Is(&[stride; 2]))]);
        y = b.node("MaxPool", &[&y], &[("kernel_shape", At::Is(&[2, 2])), ("auto_pad", At::S("SAME_LOWER"))]);
    }
    b.creature("padding by name", &[(&y, F32, "N,3,1,2")])
}

fn resized() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=1,2,5,6");
    let pads = b.list(&[0, 0, 1, 2, 0, 0, 2, 1]);
    let y = b.node("Pad", &[&x, &pads], &[("mode", At::S("reflect"))]);
    let (zero, crop) = (b.scalar(0.5), b.list(&[0, 0, -1, 0, 0, 0, 1, -1]));
    let y = b.node("Pad", &[&y, &crop, &zero], &[]);
    let edge = b.list(&[0, 0, 1, 1, 0, 0, 0, 0]);
    let y = b.node("Pad", &[&y, &edge], &[("mode", At::S("edge"))]);
    let scales = b.constant(&joulefront::tensor::Tensor::f32([4], vec![1.0, 1.0, 1.5, 2.0]).unwrap());
    let half = b.node("Resize", &[&y, "", &scales], &[("mode", At::S("linear")), ("coordinate_transformation_mode", At::S("half_pixel"))]);
    let sizes = b.list(&[1, 2, 7, 5]);
    let aligned = b.node(
        "Resize",
        &[&half, "", "", &sizes],
        &[("mode", At::S("linear")), ("coordinate_transformation_mode", At::S("align_corners"))],
    );
    let nearest = [("mode", At::S("nearest")), ("coordinate_transformation_mode", At::S("asymmetric")), ("nearest_mode", At::S("floor"))];
    let near = b.node("Resize", &[&y, "", &scales], &nearest);
    let cubic =
        [("mode", At::S("cubic")), ("coordinate_transformation_mode", At::S("pytorch_half_pixel")), ("cubic_coeff_a", At::F(-0.75))];
    let cubic = b.node("Resize", &[&y, "", "", &sizes], &cubic);
    b.creature("Pad and Resize", &[(&aligned, F32, "1,2,7,5"), (&near, F32, "1,2,13,18"), (&cubic, F32, "1,2,7,5")])
}

/// A feature map is enlarged to the size of another, which is worked out in the graph.
fn resized_to_a_skip() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=1,3,H=10,W=12");
    let (w, bias) = (b.weight(&[4, 3, 3, 3]), b.weight(&[4]));
    let small = b.node("Conv", &[&x, &w, &bias], &[("strides", At::Is(&[2, 2])), ("pads", At::Is(&[1; 4]))]);
    let shape = b.node("Shape", &[&x], &[]);
    let (two, four, zero) = (b.list(&[2]), b.list(&[4]), b.list(&[0]));
    let size = b.node("Slice", &[&shape, &two, &four, &zero], &[]);
    let front = b.node("Shape", &[&small], &[]);
    let front = b.node("Slice", &[&front, &zero, &two, &zero], &[]);
    let sizes = b.node("Concat", &[&front, &size], &[("axis", At::I(0))]);
    let up = b.node("Resize", &[&small, "", "", &sizes], &[("mode", At::S("nearest"))]);
    let lateral = b.pointwise(&x, 3, 4);
    let y = b.node("Add", &[&up, &lateral], &[]);
    let y = b.pointwise(&y, 4, 1);
    b.creature("resized to a skip", &[(&y, F32, "N,1,H,W")])
}

fn pooling() -> Creature {
    let mut b = Build::bare(12);
    let x = b.input("x", "N=2,3,9,10");
    let counted =
        [("kernel_shape", At::Is(&[3, 2])), ("strides", At::Is(&[2, 2])), ("pads", At::Is(&[1, 0, 1, 1])), ("count_include_pad", At::I(1))];
    let a = b.node("AveragePool", &[&x], &counted);
    let ceiling = [("kernel_shape", At::Is(&[3, 3])), ("strides", At::Is(&[2, 2])), ("pads", At::Is(&[1; 4])), ("ceil_mode", At::I(1))];
    let c = b.node("AveragePool", &[&x], &ceiling);
    let dilated = [("kernel_shape", At::Is(&[2, 2])), ("dilations", At::Is(&[3, 2])), ("strides", At::Is(&[2, 3]))];
    let m = b.node("MaxPool", &[&x], &dilated);
    let squared = b.node("LpPool", &[&x], &[("kernel_shape", At::Is(&[3, 3])), ("strides", At::Is(&[3, 3])), ("p", At::I(2))]);
    let g = b.node("GlobalAveragePool", &[&x], &[]);
    b.creature(
        "pooling",
        &[(&a, F32, "N,3,5,5"), (&c, F32, "N,3,5,6"), (&m, F32, "N,3,3,3"), (&squared, F32, "N,3,3,3"), (&g, F32, "N,3,1,1")],
    )
}

fn pixel_shuffle() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,1,6,6");
    let y = b.node("SpaceToDepth", &[&x], &[("blocksize", At::I(3))]);
    let y = b.pointwise(&y, 9, 8);
    let y = b.node("DepthToSpace", &[&y], &[("blocksize", At::I(2)), ("mode", At::S("CRD"))]);
    let y = b.node("DepthToSpace", &[&y], &[("blocksize", At::I(1))]);
    b.creature("pixel shuffle", &[(&y, F32, "N,2,4,4")])
}

fn channel_shuffle() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=2,6,4,4");
    let halves = b.list(&[2, 4]);
    let parts = b.nodes("Split", &[&x, &halves], 2, &[("axis", At::I(1))]);
    let branch = b.conv(&parts[1], 1, 4, 4);
    let y = b.node("Concat", &[&parts[0], &branch], &[("axis", At::I(1))]);
    let (apart, together) = (b.list(&[0, 2, 3, 4, 4]), b.list(&[0, -1, 4, 4]));
    let y = b.node("Reshape", &[&y, &apart], &[]);
    let y = b.node("Transpose", &[&y], &[("perm", At::Is(&[0, 2, 1, 3, 4]))]);
    let y = b.node("Reshape", &[&y, &together], &[]);
    let y = b.classes(&y, 6);
    b.creature("channel shuffle", &[(&y, F32, "N,4")])
}

/// GroupNorm as PyTorch exports it, LRN, and the norms of operator set 18 on.
fn group_norm() -> Creature {
    let mut b = Build::bare(21);
    let x = b.input("x", "N=2,6,4,4");
    let groups = b.list(&[0, 3, -1]);
    let y = b.node("Reshape", &[&x, &groups], &[]);
    let (one, zero) = (b.constant(&joulefront::tensor::Tensor::f32([3], vec![1.0; 3]).unwrap()), b.weight(&[3]));
    let y = b.node("InstanceNormalization", &[&y, &one, &zero], &[("epsilon", At::F(1e-5))]);
    let shape = b.node("Shape", &[&x], &[]);
    let y = b.node("Reshape", &[&y, &shape], &[]);
    let y = b.node("LRN", &[&y], &[("size", At::I(3)), ("alpha", At::F(0.5)), ("beta", At::F(0.75))]);
    let (scale, bias) = (b.weight(&[6]), b.weight(&[6]));
    let y = b.node("GroupNormalization", &[&y, &scale, &bias], &[("num_groups", At::I(2))]);
    let y = b.node("LpNormalization", &[&y], &[("axis", At::I(1)), ("p", At::I(2))]);
    let z = b.node("MeanVarianceNormalization", &[&x], &[("axes", At::Is(&[0, 2, 3]))]);
    let y = b.node("Sub", &[&y, &z], &[]);
    let y = b.classes(&y, 6);
    b.creature("group norms", &[(&y, F32, "N,4")])
}

/// MobileNet v3's block: hard activations, squeeze and excite with ReduceMean.
fn mobile_block() -> Creature {
    let mut b = Build::bare(14);
    let x = b.input("x", "N=2,4,6,6");
    let y = b.pointwise(&x, 4, 12);
    let y = b.batch_norm(&y, 12);
    let y = b.node("HardSwish", &[&y], &[]);
    let y = b.conv(&y, 1, 12, 12);
    let s = b.node("ReduceMean", &[&y], &[("axes", At::Is(&[2, 3]))]);
    let s = b.pointwise(&s, 12, 4);
    let s = b.relu(&s);
    let s = b.pointwise(&s, 4, 12);
    let s = b.node("HardSigmoid", &[&s], &[("alpha", At::F(1.0 / 6.0))]);
    let y = b.node("Mul", &[&s, &y], &[]);
    let y = b.pointwise(&y, 12, 4);
    let y = b.node("Add", &[&y, &x], &[]);
    let y = b.node("Elu", &[&y], &[("alpha", At::F(0.7))]);
    let y = b.node("Softplus", &[&y], &[]);
    let y = b.classes(&y, 4);
    b.creature("mobile block", &[(&y, F32, "N,4")])
}

/// Boxes and scores of every place, without the suppression of doubles.
fn heads_of_a_detector() -> Creature {
    let mut b = Build::bare(13);
    let x = b.input("x", "N=1,3,6,6");
    let y = b.conv(&x, 3, 8, 1);
    let y = b.relu(&y);
    let head = |b: &mut Build, each: i64| {
        let z = b.pointwise(&y, 8, 2 * each as usize);
        let z = b.node("Transpose", &[&z], &[("perm", At::Is(&[0, 2, 3, 1]))]);
        let shape = b.list(&[0, -1, each]);
        b.node("Reshape", &[&z, &shape], &[])
    };
    let (boxes, scores) = (head(&mut b, 4), head(&mut b, 3));
    let boxes = b.node("Sigmoid", &[&boxes], &[]);
    let scores = b.node("Softmax", &[&scores], &[("axis", At::I(-1))]);
    let best = b.node("ReduceMax", &[&scores], &[("axes", At::Is(&[2])), ("keepdims", At::I(0))]);
    let k = b.list(&[5]);
    let top = b.nodes("TopK", &[&best, &k], 2, &[("axis", At::I(1))]);
    let last = b.list(&[2]);
    let index = b.node("Unsqueeze", &[&top[1], &last], &[]);
    let four = b.list(&[1, 5, 4]);
    let index = b.node("Expand", &[&index, &four], &[]);
    let chosen = b.node("GatherElements", &[&boxes, &index], &[("axis", At::I(1))]);
    b.creature("heads of a detector", &[(&chosen, F32, "N,5,4"), (&top[0], F32, "N,5"), (&top[1], joulefront::tensor::DType::I64, "N,5")])
}
