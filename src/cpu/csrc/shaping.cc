// Operators between convolutions: sums, concatenation, shuffle, gates, pooling. Inputs come as pairs (x, rule), outputs
// are plain. All walk over pixels, a contiguous part per thread; vectors run over channels.
#include "rule.h"

using namespace cpu;

namespace {

struct Input {
  const float* data;
  Index channels, images, area, pixels;
  Rule rule;

  Input(const Tensor& x, const Tensor& rule)
      : data(x), channels(x.dim(3)), images(x.dim(0)), area(x.dim(1) * x.dim(2)), pixels(images * area),
        rule(rule, channels) {}
  Index padded() const { return round_up(channels, lanes); }
  // Values of `count` pixels; `out` has room for padded() floats of each.
  void read(Index pixel, float* out, Index count = 1) const {
    read_pixels(rule, 0, data + pixel * channels, channels, channels, out, padded(), count);
  }
};

// Runs each(item, buffer) for all items; the buffer holds `floats` floats and belongs to the thread.
template <class Each>
void for_each(Index items, Index floats, Each&& each) {
  Scratch scratch;
  const Index team = threads(), stride = round_up(floats, 16);
  float* buffers = scratch.take<float>(team * stride);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    const Range mine = part_of(items, 1, me, team);
    for (Index i = mine.begin; i < mine.end; ++i) each(i, buffers + me * stride);
  }
}

// Runs each(c, n) for the vectors of `channels` channels, n of them valid in each.
template <class Each>
INLINE void for_channels(Index channels, Each&& each) {
  for (Index c = 0; c < channels; c += lanes) each(c, std::min(lanes, channels - c));
}

// All threads' sums into the gradient of the input's rule.
void rule_gradient(const Input& in, char* memory, Index team, float* d_rule) {
  if (in.rule.plain())
    d_rule[0] = 0;
  else
    merge_rule_sums(memory, team, in.padded(), in.channels, d_rule);
}

// Backward into an input: fill(item, d, buffer) writes the gradient of the value of the pixels of one item (`size`
// consecutive pixels), which then goes back through the rule.
template <class Fill>
void input_gradient(const Input& in, Index size, float* dx, float* d_rule, Index floats, Fill&& fill) {
  Scratch scratch;
  const Index team = threads(), bytes = in.padded() * RuleSums::bytes_per_channel, stride = round_up(floats, 16);
  char* memory = scratch.take<char>(team * bytes);
  float* buffers = scratch.take<float>(team * stride);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    RuleSums sums(memory + me * bytes, in.padded());
    sums.clear();
    const Range mine = part_of(in.pixels / size, 1, me, team);
    // Items in groups of some pixels, so that the sums over a group stay in registers.
    const Index group = divide_up(8, size);
    for (Index i = mine.begin; i < mine.end; i += group) {
      const Index items = std::min(group, mine.end - i), at = i * size * in.channels, pixels = items * size;
      for (Index item = 0; item < items; ++item)
        fill(i + item, dx + at + item * size * in.channels, buffers + me * stride);
      for (Index p = 0; p < pixels; p += 128) {
        const Index from = at + p * in.channels;
        rule_backward(in.rule, 0, in.data + from, dx + from, in.channels, in.channels, std::min<Index>(128, pixels - p),
                      sums);
        if (pixels > 8 || i / group % 16 == 0) sums.finish_tile();
      }
    }
    sums.finish_tile();
  }
  rule_gradient(in, memory, team, d_rule);
}

// to[c] = from[c] * factor.
void scaled_copy(const float* from, float factor, float* to, Index channels) {
  for_channels(channels, [&](Index c, Index n) { store_some(to + c, load_some(from + c, n) * factor, n); });
}

void copy(const float* from, float* to, Index channels) { std::memcpy(to, from, channels * sizeof(float)); }

// [rows, columns] to [columns, rows].
void transpose(const float* from, Index rows, Index columns, float* to) {
  for (Index a = 0; a < columns; ++a)
    for (Index b = 0; b < rows; ++b) *to++ = from[b * columns + a];
}

// to = activation(a + b).
void sum(const Input& a, const Input& b, int code, float* to) {
  with_code(code, [&](auto code) {
    for_each(a.pixels, 2 * a.padded(), [&](Index p, float* buffer) {
      float *other = buffer + a.padded(), *out = to + p * a.channels;
      a.read(p, buffer);
      b.read(p, other);
      for_channels(a.channels, [&](Index c, Index n) {
        store_some(out + c, activate<code>(load(buffer + c) + load(other + c)), n);
      });
    });
  });
}

// 3 x 3 pooling windows at stride 2. `same` pads right and bottom where the size is even and averages true elements;
// symmetric pads one zero on every side, which takes part in maximum and average.
struct Pooling {
  Index height, width, out_height, out_width, top, left;
  bool same;

  Pooling(const Tensor& x, const Tensor& same, const Tensor& y)
      : height(x.dim(1)), width(x.dim(2)), out_height(y.dim(1)), out_width(y.dim(2)),
        top(same.number() ? height % 2 : 1), left(same.number() ? width % 2 : 1), same(same.number() != 0) {}

  struct Window {
    Index pixel[9];  // of the image
    Index count = 0;
    bool zero;  // a padded zero takes part
    float share;
  };
  Window window(Index out) const {
    Window w;
    const Index y = out / out_width * 2 - top, x = out % out_width * 2 - left;
    for (Index i = std::max<Index>(y, 0); i < std::min(y + 3, height); ++i)
      for (Index j = std::max<Index>(x, 0); j < std::min(x + 3, width); ++j) w.pixel[w.count++] = i * width + j;
    w.zero = !same && w.count < 9;
    w.share = 1.f / static_cast<float>(same ? w.count : 9);
    return w;
  }
  Index area() const { return out_height * out_width; }
};

// Values of the window's pixels, one after the other.
void read_window(const Input& x, const Pooling::Window& w, Index image, float* buffer) {
  for (Index i = 0; i < w.count; ++i) x.read(image * x.area + w.pixel[i], buffer + i * x.padded());
}

}  // namespace

// a, rule, b, rule -> a + b.
OPERATOR(add, a, a_rule, b, b_rule, out) { sum({args.a, args.a_rule}, {args.b, args.b_rule}, AFFINE, args.out); }

// a, rule, b, rule, [code] -> activation(a + b).
OPERATOR(add_activated, a, a_rule, b, b_rule, code, out) {
  sum({args.a, args.a_rule}, {args.b, args.b_rule}, args.code.number(), args.out);
}

// a, rule, b, rule, [code], d out -> da, d rule, db, d rule.
OPERATOR(add_activated_grad, a, a_rule, b, b_rule, code, d, da, da_rule, db, db_rule) {
  constexpr Index tile = 8, tiles_between_flushes = 16;
  const Input a(args.a, args.a_rule), b(args.b, args.b_rule);
  const Index team = threads(), channels = a.channels, padded = a.padded();
  float *da = args.da, *db = args.db;
  Scratch scratch;
  const Index bytes = padded * RuleSums::bytes_per_channel;
  char* memory = scratch.take<char>(2 * team * bytes);
  float* buffers = scratch.take<float>(team * 2 * tile * padded);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    RuleSums a_sums(memory + me * bytes, padded), b_sums(memory + (team + me) * bytes, padded);
    a_sums.clear(), b_sums.clear();
    float *a_value = buffers + me * 2 * tile * padded, *b_value = a_value + tile * padded;
    const Range mine = part_of(divide_up(a.pixels, tile), 1, me, team);
    for (Index i = mine.begin; i < mine.end; ++i) {
      const Index first = i * tile, count = std::min(tile, a.pixels - first), at = first * channels;
      a.read(first, a_value, count);
      b.read(first, b_value, count);
      with_code(args.code.number(), [&](auto code) {
        for (Index p = 0; p < count; ++p)
          for_channels(channels, [&](Index c, Index n) {
            const Index to = at + p * channels + c, from = p * padded + c;
            const Vec d = activate_grad<code>(load(a_value + from) + load(b_value + from), load_some(args.d + to, n));
            store_some(da + to, d, n);
            store_some(db + to, d, n);
          });
      });
      rule_backward(a.rule, 0, a.data + at, da + at, channels, channels, count, a_sums);
      rule_backward(b.rule, 0, b.data + at, db + at, channels, channels, count, b_sums);
      if (i % tiles_between_flushes == 0) a_sums.finish_tile(), b_sums.finish_tile();
    }
    a_sums.finish_tile(), b_sums.finish_tile();
  }
  rule_gradient(a, memory, team, args.da_rule);
  rule_gradient(b, memory + team * bytes, team, args.db_rule);
}

// a, rule, b, rule, [code] -> activation([a, b] along the channels).
OPERATOR(concat, a, a_rule, b, b_rule, code, out) {
  const Input a(args.a, args.a_rule), b(args.b, args.b_rule);
  with_code(args.code.number(), [&](auto code) {
    for_each(a.pixels, std::max(a.padded(), b.padded()), [&](Index p, float* buffer) {
      float* out = args.out + p * (a.channels + b.channels);
      for (const Input* part : {&a, &b}) {
        part->read(p, buffer);
        for_channels(part->channels,
                     [&](Index c, Index n) { store_some(out + c, activate<code>(load(buffer + c)), n); });
        out += a.channels;
      }
    });
  });
}

// a, rule, b, rule, [code], d out -> da, d rule, db, d rule.
OPERATOR(concat_grad, a, a_rule, b, b_rule, code, d, da, da_rule, db, db_rule) {
  const Input a(args.a, args.a_rule), b(args.b, args.b_rule);
  const Index channels = a.channels + b.channels;
  const float* d = args.d;
  with_code(args.code.number(), [&](auto code) {
    const auto part = [&](const Input& in, const float* d_part, float* d_in, float* d_rule) {
      input_gradient(in, 1, d_in, d_rule, in.padded(), [&](Index p, float* to, float* buffer) {
        const float* from = d_part + p * channels;
        if (code == AFFINE) return copy(from, to, in.channels);
        in.read(p, buffer);
        for_channels(in.channels, [&](Index c, Index n) {
          store_some(to + c, activate_grad<code>(load(buffer + c), load_some(from + c, n)), n);
        });
      });
    };
    part(a, d, args.da, args.da_rule);
    part(b, d + a.channels, args.db, args.db_rule);
  });
}

// x, rule, d value -> dx, d rule.
OPERATOR(apply_grad, x, rule, d, dx, d_rule) {
  const Input x(args.x, args.rule);
  input_gradient(x, 1, args.dx, args.d_rule, 0,
                 [&](Index p, float* to, float*) { copy(args.d + p * x.channels, to, x.channels); });
}

// x, rule, [rows] -> output channel a * rows + b is input channel b * C / rows + a.
OPERATOR(shuffle, x, rule, rows, out) {
  const Input x(args.x, args.rule);
  const Index rows = args.rows.number(), columns = x.channels / rows;
  for_each(x.pixels, x.padded(), [&](Index p, float* buffer) {
    x.read(p, buffer);
    transpose(buffer, rows, columns, args.out + p * x.channels);
  });
}

// x, rule, [rows], d out -> dx, d rule.
OPERATOR(shuffle_grad, x, rule, rows, d, dx, d_rule) {
  const Input x(args.x, args.rule);
  const Index rows = args.rows.number(), columns = x.channels / rows;
  input_gradient(x, 1, args.dx, args.d_rule, 0,
                 [&](Index p, float* to, float*) { transpose(args.d + p * x.channels, columns, rows, to); });
}

// x, rule -> the first and the second half of the channels.
OPERATOR(split, x, rule, first, second) {
  const Input x(args.x, args.rule);
  const Index half = x.channels / 2;
  for_each(x.pixels, x.padded(), [&](Index p, float* buffer) {
    x.read(p, buffer);
    copy(buffer, args.first + p * half, half);
    copy(buffer + half, args.second + p * half, half);
  });
}

// x, rule, d first, d second -> dx, d rule.
OPERATOR(split_grad, x, rule, d_first, d_second, dx, d_rule) {
  const Input x(args.x, args.rule);
  const Index half = x.channels / 2;
  input_gradient(x, 1, args.dx, args.d_rule, 0, [&](Index p, float* to, float*) {
    copy(args.d_first + p * half, to, half);
    copy(args.d_second + p * half, to + half, half);
  });
}

// x, rule, [rows] -> the first and the second half of the shuffled channels.
OPERATOR(shuffle_split, x, rule, rows, first, second) {
  const Input x(args.x, args.rule);
  const Index rows = args.rows.number(), half = x.channels / 2;
  for_each(x.pixels, 2 * x.padded(), [&](Index p, float* buffer) {
    float* shuffled = buffer + x.padded();
    x.read(p, buffer);
    transpose(buffer, rows, x.channels / rows, shuffled);
    copy(shuffled, args.first + p * half, half);
    copy(shuffled + half, args.second + p * half, half);
  });
}

// x, rule, [rows], d first, d second -> dx, d rule.
OPERATOR(shuffle_split_grad, x, rule, rows, d_first, d_second, dx, d_rule) {
  const Input x(args.x, args.rule);
  const Index rows = args.rows.number(), half = x.channels / 2;
  input_gradient(x, 1, args.dx, args.d_rule, x.padded(), [&](Index p, float* to, float* shuffled) {
    copy(args.d_first + p * half, shuffled, half);
    copy(args.d_second + p * half, shuffled + half, half);
    transpose(shuffled, x.channels / rows, rows, to);
  });
}

// x, rule -> means over height and width [n, C, 1, 1].
OPERATOR(global_pool, x, rule, mean) {
  const Input x(args.x, args.rule);
  for_each(x.images, 2 * x.padded(), [&](Index image, float* buffer) {
    float* sum = buffer + x.padded();
    std::fill(sum, sum + x.padded(), 0.f);
    for (Index p = 0; p < x.area; ++p) {
      x.read(image * x.area + p, buffer);
      for (Index c = 0; c < x.padded(); c += lanes) add_to(sum + c, load(buffer + c));
    }
    scaled_copy(sum, 1.f / static_cast<float>(x.area), args.mean + image * x.channels, x.channels);
  });
}

// x, rule, d means -> dx, d rule.
OPERATOR(global_pool_grad, x, rule, d, dx, d_rule) {
  const Input x(args.x, args.rule);
  input_gradient(x, 1, args.dx, args.d_rule, 0, [&](Index p, float* to, float*) {
    scaled_copy(args.d + p / x.area * x.channels, 1.f / static_cast<float>(x.area), to, x.channels);
  });
}

// x, rule, gate [n, C, 1, 1] -> x * gate.
OPERATOR(gate, x, rule, gate, out) {
  const Input x(args.x, args.rule);
  for_each(x.pixels, x.padded(), [&](Index p, float* buffer) {
    const float* gates = args.gate + p / x.area * x.channels;
    float* out = args.out + p * x.channels;
    x.read(p, buffer);
    for_channels(x.channels,
                 [&](Index c, Index n) { store_some(out + c, load(buffer + c) * load_some(gates + c, n), n); });
  });
}

// x, rule, gate, d out -> dx, d rule, d gate.
OPERATOR(gate_grad, x, rule, gate, d, dx, d_rule, d_gate) {
  const Input x(args.x, args.rule);
  const float* d = args.d;
  input_gradient(x, x.area, args.dx, args.d_rule, 2 * x.padded(), [&](Index image, float* to, float* buffer) {
    const float* gates = args.gate + image * x.channels;
    float* sum = buffer + x.padded();
    std::fill(sum, sum + x.padded(), 0.f);
    for (Index p = 0; p < x.area; ++p) {
      const float* from = d + (image * x.area + p) * x.channels;
      x.read(image * x.area + p, buffer);
      for_channels(x.channels, [&](Index c, Index n) {
        const Vec given = load_some(from + c, n);
        add_to(sum + c, given * load(buffer + c));
        store_some(to + p * x.channels + c, given * load_some(gates + c, n), n);
      });
    }
    copy(sum, args.d_gate + image * x.channels, x.channels);
  });
}

// x, rule, [same] -> pooled.
OPERATOR(max_pool, x, rule, same, out) {
  const Input x(args.x, args.rule);
  const Pooling pool(args.x, args.same, args.out);
  for_each(x.images * pool.area(), 9 * x.padded(), [&](Index o, float* buffer) {
    const Pooling::Window w = pool.window(o % pool.area());
    read_window(x, w, o / pool.area(), buffer);
    for_channels(x.channels, [&](Index c, Index n) {
      Vec best = w.zero ? Vec{} : load(buffer + c);
      for (Index i = 0; i < w.count; ++i) best = at_least(load(buffer + i * x.padded() + c), best);
      store_some(args.out + o * x.channels + c, best, n);
    });
  });
}

// x, rule, [same], pooled, d pooled -> dx, d rule. The first of equal maxima receives the gradient.
OPERATOR(max_pool_grad, x, rule, same, out, d, dx, d_rule) {
  const Input x(args.x, args.rule);
  const Pooling pool(args.x, args.same, args.out);
  input_gradient(x, x.area, args.dx, args.d_rule, 9 * x.padded(), [&](Index image, float* to, float* buffer) {
    std::memset(to, 0, x.area * x.channels * sizeof(float));
    for (Index o = 0; o < pool.area(); ++o) {
      const Pooling::Window w = pool.window(o);
      const Index at = (image * pool.area() + o) * x.channels;
      read_window(x, w, image, buffer);
      for_channels(x.channels, [&](Index c, Index n) {
        const Vec best = load_some(args.out + at + c, n);
        Vec left = load_some(args.d + at + c, n);
        for (Index i = 0; i < w.count; ++i) {
          const auto here = load(buffer + i * x.padded() + c) == best;
          float* d = to + w.pixel[i] * x.channels + c;
          store_some(d, load_some(d, n) + (here ? left : Vec{}), n);
          left = here ? Vec{} : left;
        }
      });
    }
  });
}

// x, rule, [same] -> pooled.
OPERATOR(avg_pool, x, rule, same, out) {
  const Input x(args.x, args.rule);
  const Pooling pool(args.x, args.same, args.out);
  for_each(x.images * pool.area(), 9 * x.padded(), [&](Index o, float* buffer) {
    const Pooling::Window w = pool.window(o % pool.area());
    read_window(x, w, o / pool.area(), buffer);
    for_channels(x.channels, [&](Index c, Index n) {
      Vec sum = {};
      for (Index i = 0; i < w.count; ++i) sum += load(buffer + i * x.padded() + c);
      store_some(args.out + o * x.channels + c, sum * w.share, n);
    });
  });
}

// x, rule, [same], d pooled -> dx, d rule.
OPERATOR(avg_pool_grad, x, rule, same, d, dx, d_rule) {
  const Input x(args.x, args.rule);
  const Pooling pool(args.x, args.same, args.d);
  input_gradient(x, x.area, args.dx, args.d_rule, 0, [&](Index image, float* to, float*) {
    std::memset(to, 0, x.area * x.channels * sizeof(float));
    for (Index o = 0; o < pool.area(); ++o) {
      const Pooling::Window w = pool.window(o);
      const float* from = args.d + (image * pool.area() + o) * x.channels;
      for (Index i = 0; i < w.count; ++i)
        for_channels(x.channels, [&](Index c, Index n) {
          float* d = to + w.pixel[i] * x.channels + c;
          store_some(d, load_some(d, n) + load_some(from + c, n) * w.share, n);
        });
    }
  });
}
