// The operators: argument lists of every custom operation. Tensors are [n, height, width, channels] except images.
#include "depthwise.h"
#include "matrix_conv.h"

using namespace cpu;

namespace {

// A tile of activated input stays in the second-level cache beside weights and output. Backward, three lines of each
// row of gradients stay in the first-level cache too while all columns of the input pass by.
constexpr Index forward_tile = 96 * 1024, forward_rows = 240, backward_tile = 256 * 1024, backward_rows = 96;

// Training, forward: inputs, then outputs. `settings` are those of NormSettings.
struct Forward {
  Tensor x, rule, weight, gamma, beta, mean, variance, settings;
  Tensor y, y_rule, saved, new_mean, new_variance;

  NormForward norm() const {
    return {gamma, beta, mean, variance, NormSettings(settings), y_rule, saved, new_mean, new_variance};
  }
};

// What training's backward passes take. `dy` and `dy_rule` are the gradients of y and of y's rule.
struct BackwardInputs {
  Tensor x, rule, weight, gamma, y, saved, dy, dy_rule;

  Index out() const { return y.dim(3); }
  NormBackward norm(Scratch& scratch, float* d_gamma, float* d_beta) const {
    const Index pixels = y.dim(0) * y.dim(1) * y.dim(2);
    return {gamma, saved, dy_rule, out(), pixels, scratch.take<float>(2 * out()), d_gamma, d_beta};
  }
};

struct Backward : BackwardInputs {
  Tensor dx, d_rule, d_weight, d_gamma, d_beta;

  // nullptr for a tensor that had no rule.
  float* rule_gradient() const {
    if (d_rule.size() > 1) return d_rule;
    d_rule[0] = 0;
    return nullptr;
  }
};

// An image's gradient is apart: it is rarely wanted.
struct StemBackward : BackwardInputs {
  Tensor d_weight, d_gamma, d_beta;
};
struct ImageBackward : BackwardInputs {
  Tensor dx;
};

// Evaluation. `residual` of one element stands for none.
struct Inference {
  Tensor x, rule, weight, gamma, beta, mean, variance, settings, residual;
  Tensor y;

  NormInference norm() const { return {gamma, beta, mean, variance, NormSettings(settings)}; }
};

template <class Named>
PixelSource pixels_of(const Named& a, Index tile_bytes, Index most_rows) {
  const Index channels = a.x.dim(3), pixels = a.x.dim(0) * a.x.dim(1) * a.x.dim(2);
  return {a.x, Rule(a.rule, channels), pixels, channels, channels / a.weight.dim(1), tile_bytes, most_rows};
}

}  // namespace

OPERATOR_OF(Forward, pointwise_train) {
  Scratch scratch;
  convolve_and_normalise(pixels_of(args, forward_tile, forward_rows), args.weight, args.y.dim(3), args.y, args.norm(),
                         scratch);
}

OPERATOR_OF(Forward, stem_train) {
  Scratch scratch;
  const ImageSource source(args.x, args.weight, args.y, scratch);
  convolve_and_normalise(source, args.weight, args.y.dim(3), args.y, args.norm(), scratch);
}

OPERATOR_OF(Forward, depthwise_train) {
  Scratch scratch;
  depthwise_forward(DepthwiseShape(args.x, args.weight, args.y), args.x, Rule(args.rule, args.x.dim(3)), args.weight,
                    args.y, args.norm(), scratch);
}

OPERATOR_OF(Backward, pointwise_grad) {
  Scratch scratch;
  const NormBackward norm = args.norm(scratch, args.d_gamma, args.d_beta);
  convolve_backward(pixels_of(args, backward_tile, backward_rows), args.weight, args.out(), args.y, args.dy, norm,
                    args.dx, args.rule_gradient(), args.d_weight, scratch);
}

OPERATOR_OF(StemBackward, stem_grad) {
  Scratch scratch;
  const ImageSource source(args.x, args.weight, args.y, scratch);
  const NormBackward norm = args.norm(scratch, args.d_gamma, args.d_beta);
  convolve_backward(source, args.weight, args.out(), args.y, args.dy, norm, nullptr, nullptr, args.d_weight, scratch);
}

OPERATOR_OF(Backward, depthwise_grad) {
  Scratch scratch;
  const DepthwiseShape shape(args.x, args.weight, args.y);
  const NormBackward norm = args.norm(scratch, args.d_gamma, args.d_beta);
  depthwise_backward(shape, args.x, Rule(args.rule, shape.channels), args.weight, args.y, args.dy, norm, args.dx,
                     args.rule_gradient(), args.d_weight, scratch);
}

OPERATOR_OF(Inference, pointwise_infer) {
  Scratch scratch;
  const float* residual = args.residual.size() > 1 ? args.residual.data : nullptr;
  convolve_for_inference(pixels_of(args, forward_tile, forward_rows), args.weight, args.y.dim(3), args.y, residual,
                         args.norm(), scratch);
}

OPERATOR_OF(Inference, stem_infer) {
  Scratch scratch;
  const ImageSource source(args.x, args.weight, args.y, scratch);
  convolve_for_inference(source, args.weight, args.y.dim(3), args.y, nullptr, args.norm(), scratch);
}

OPERATOR_OF(Inference, depthwise_infer) {
  Scratch scratch;
  depthwise_infer(DepthwiseShape(args.x, args.weight, args.y), args.x, Rule(args.rule, args.x.dim(3)), args.weight,
                  args.y, args.norm(), scratch);
}

// Not fast.
OPERATOR_OF(ImageBackward, image_grad) {
  Scratch scratch;
  const Index out = args.out(), padded = round_up(out, lanes), team = threads();
  const ImageSource s(args.x, args.weight, args.y, scratch);
  const NormBackward norm = args.norm(scratch, scratch.take<float>(out), scratch.take<float>(out));
  float* grads = scratch.take<float>(team * padded);
  float* taps = scratch.take<float>(s.k * padded);
  std::memset(taps, 0, s.k * padded * sizeof(float));
  for (Index o = 0; o < out; ++o)
    for (Index t = 0; t < s.k; ++t) taps[t * padded + o] = args.weight[o * s.k + t];
  const Index images = args.x.dim(0), image_floats = s.channels * s.height * s.width;
  const Index area = s.out_height * s.out_width;
#pragma omp parallel num_threads(team)
  {
    float* grad = grads + omp_get_thread_num() * padded;
    const Range mine = part_of(images, 1, omp_get_thread_num(), team);
    for (Index n = mine.begin; n < mine.end; ++n) {
      float* dx = args.dx + n * image_floats;
      std::memset(dx, 0, image_floats * sizeof(float));
      for (Index p = 0; p < area; ++p) {
        const Index at = (n * area + p) * out;
        norm.read(args.y + at, args.dy + at, out, 0, out, grad, padded, 1);
        for (Index t = 0; t < s.k; ++t) {
          const Index y = p / s.out_width * s.stride - s.pad + t / s.kernel % s.kernel;
          const Index x = p % s.out_width * s.stride - s.pad + t % s.kernel;
          if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
          Vec sum = {};
          for (Index o = 0; o < padded; o += lanes) sum += load(grad + o) * load(taps + t * padded + o);
          float& to = dx[(t / s.kernel / s.kernel * s.height + y) * s.width + x];
          for (Index l = 0; l < lanes; ++l) to += sum[l];
        }
      }
    }
  }
}

#ifdef PROFILE
extern "C" void write_profile(const char* path) { Profile::write(path); }
#endif
