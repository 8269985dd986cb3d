// The operators: argument lists of every custom operation. Tensors are [n, height, width, channels] except images.
#include "depthwise.h"
#include "matrix_conv.h"

using namespace cpu;

namespace {

// A tile of activated input stays in the second-level cache beside weights and output. Backward, three lines of each
// row of gradients stay in the first-level cache too while all columns of the input pass by.
constexpr Index forward_tile = 96 * 1024, forward_rows = 240, backward_tile = 256 * 1024, backward_rows = 96;

Index pixels_of(const Arguments& args, int i) { return args.dim(i, 0) * args.dim(i, 1) * args.dim(i, 2); }

NormForward norm_forward(const Arguments& args) {
  return {args[3], args[4], args[5], args[6], NormSettings(args[7]), args[9], args[10], args[11], args[12]};
}

NormInference norm_inference(const Arguments& args) {
  return {args[3], args[4], args[5], args[6], NormSettings(args[7])};
}

// The rule's gradient for a tensor that had none.
float* rule_gradient(const Arguments& args, int i) {
  if (args.size(i) == 1) {
    args[i][0] = 0;
    return nullptr;
  }
  return args[i];
}

}  // namespace

// Training, forward: x, rule, weight, gamma, beta, moving mean, moving variance, settings
//                 -> y, rule of y, saved, new moving mean, new moving variance.
OPERATOR(pointwise_train) {
  Scratch scratch;
  const Index channels = args.dim(0, 3);
  const PixelSource source(args[0], Rule(args, 1, channels), pixels_of(args, 0), channels, channels / args.dim(2, 1),
                           forward_tile, forward_rows);
  convolve_and_normalise(source, args[2], args.dim(8, 3), args[8], norm_forward(args), scratch);
}

OPERATOR(stem_train) {
  Scratch scratch;
  const ImageSource source(args, 0, 2, 8, scratch);
  convolve_and_normalise(source, args[2], args.dim(8, 3), args[8], norm_forward(args), scratch);
}

OPERATOR(depthwise_train) {
  Scratch scratch;
  depthwise_forward(DepthwiseShape(args, 0, 2, 8), args[0], Rule(args, 1, args.dim(0, 3)), args[2], args[8],
                    norm_forward(args), scratch);
}

// Training, backward: x, rule, weight, gamma, y, saved, dy, d rule of y -> dx, d rule, d weight, d gamma, d beta.
OPERATOR(pointwise_grad) {
  Scratch scratch;
  const Index channels = args.dim(0, 3), out = args.dim(4, 3), pixels = pixels_of(args, 0);
  const NormBackward norm(args[3], args[5], args[7], out, pixels, scratch.take<float>(2 * out), args[11], args[12]);
  const PixelSource source(args[0], Rule(args, 1, channels), pixels, channels, channels / args.dim(2, 1), backward_tile,
                           backward_rows);
  convolve_backward(source, args[2], out, args[4], args[6], norm, args[8], rule_gradient(args, 9), args[10], scratch);
}

// The same without dx and d rule: an image has none to speak of (see image_grad).
OPERATOR(stem_grad) {
  Scratch scratch;
  const Index out = args.dim(4, 3);
  const ImageSource source(args, 0, 2, 4, scratch);
  const NormBackward norm(args[3], args[5], args[7], out, source.pixels, scratch.take<float>(2 * out), args[9],
                          args[10]);
  convolve_backward(source, args[2], out, args[4], args[6], norm, nullptr, nullptr, args[8], scratch);
}

OPERATOR(depthwise_grad) {
  Scratch scratch;
  const DepthwiseShape shape(args, 0, 2, 4);
  const NormBackward norm(args[3], args[5], args[7], shape.channels, shape.n * shape.out_height * shape.out_width,
                          scratch.take<float>(2 * shape.channels), args[11], args[12]);
  depthwise_backward(shape, args[0], Rule(args, 1, shape.channels), args[2], args[4], args[6], norm, args[8],
                     rule_gradient(args, 9), args[10], scratch);
}

// Inference: x, rule, weight, gamma, beta, moving mean, moving variance, settings, residual (one element: none) -> y.
OPERATOR(pointwise_infer) {
  Scratch scratch;
  const Index channels = args.dim(0, 3);
  const PixelSource source(args[0], Rule(args, 1, channels), pixels_of(args, 0), channels, channels / args.dim(2, 1),
                           forward_tile, forward_rows);
  convolve_for_inference(source, args[2], args.dim(9, 3), args[9], args.size(8) > 1 ? args[8] : nullptr,
                         norm_inference(args), scratch);
}

OPERATOR(stem_infer) {
  Scratch scratch;
  const ImageSource source(args, 0, 2, 9, scratch);
  convolve_for_inference(source, args[2], args.dim(9, 3), args[9], nullptr, norm_inference(args), scratch);
}

OPERATOR(depthwise_infer) {
  Scratch scratch;
  depthwise_infer(DepthwiseShape(args, 0, 2, 9), args[0], Rule(args, 1, args.dim(0, 3)), args[2], args[9],
                  norm_inference(args), scratch);
}

// The gradient of the image: x, rule, weight, gamma, y, saved, dy, d rule of y -> dx. Rarely wanted, and not fast.
OPERATOR(image_grad) {
  Scratch scratch;
  const Index out = args.dim(4, 3), padded = round_up(out, lanes), team = threads();
  const ImageSource s(args, 0, 2, 4, scratch);
  const NormBackward norm(args[3], args[5], args[7], out, s.pixels, scratch.take<float>(2 * out),
                          scratch.take<float>(out), scratch.take<float>(out));
  float* grads = scratch.take<float>(team * padded);
  float* taps = scratch.take<float>(s.k * padded);
  std::memset(taps, 0, s.k * padded * sizeof(float));
  for (Index o = 0; o < out; ++o)
    for (Index t = 0; t < s.k; ++t) taps[t * padded + o] = args[2][o * s.k + t];
  const Index images = args.dim(0, 0), image_floats = s.channels * s.height * s.width;
  const Index area = s.out_height * s.out_width;
#pragma omp parallel num_threads(team)
  {
    float* grad = grads + omp_get_thread_num() * padded;
    const Range mine = part_of(images, 1, omp_get_thread_num(), team);
    for (Index n = mine.begin; n < mine.end; ++n) {
      float* dx = args[8] + n * image_floats;
      std::memset(dx, 0, image_floats * sizeof(float));
      for (Index p = 0; p < area; ++p) {
        const Index at = (n * area + p) * out;
        norm.read(args[4] + at, args[6] + at, out, 0, out, grad, padded, 1);
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
