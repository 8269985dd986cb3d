// The operator that evaluates a whole network.
//
// Each thread takes images of its own and walks them through all steps, so that activations stay in its caches and
// nobody waits; few images are walked one by one by all threads together. Either way every sum is the same, so an
// image's result depends neither on its batch nor on the number of threads.
#include <cmath>
#include <vector>

#include "depthwise.h"
#include "gemm.h"
#include "program.h"

// Not an anonymous namespace: what is known to be called from here alone GCC 12 inlines into one function whose vectors
// no longer fit the registers, and evaluation takes 1.3 times as long.
namespace cpu {

constexpr Index few_pixels = 128;

// The last step of an operation: bounds, but for hard-swish, which is its own template. Hard-sigmoid is a bound too,
// its slope being part of the weights.
inline Finish finish_of(int code) {
  Finish finish(code);
  if (code == HSIGMOID) finish.low = splat(0.f), finish.high = splat(1.f);
  return finish;
}

template <class Body>
INLINE void with_swish(int code, Body&& body) {
  code == HSWISH ? body(std::true_type()) : body(std::false_type());
}

// Pixels of a map, or of some of its channels.
struct Place {
  float* data = nullptr;
  Index stride = 0, gap = 0;
  std::uint64_t inverse = 0;  // of the width: rounded up, so that pixel / width is exact below 2^32 / width pixels

  Place() = default;
  Place(float* data, const Map& map)
      : data(data), stride(map.stride), gap(map.gap()), inverse((std::uint64_t{1} << 32) / map.width + 1) {}
  INLINE float* at(Index pixel) const {
    const Index line = static_cast<Index>(static_cast<std::uint64_t>(pixel) * inverse >> 32);
    return data + pixel * stride + line * gap;
  }
};

// The epilogue of products: activation(sum + shift [+ residual]) of the pixels from `first` on. At most `room` floats
// of a pixel may be written. Where a panel serves few pixels, the next one is fetched meanwhile (AHEAD).
template <bool SWISH, bool AHEAD>
struct Deposit {
  Place to;
  Index first, room;
  const float* shift;
  Finish finish;
  Place residual = {};
  const float* next = nullptr;
  Index floats_per_row = 0, floats_per_k = 0;

  template <Index MR, Index NV>
  INLINE void operator()(Vec (&sum)[MR][NV], Index row, Index column) {
    const bool fits = room - column >= NV * lanes;
    fits ? deposit<true>(sum, first + row, column) : deposit<false>(sum, first + row, column);
  }

 private:
  template <bool WHOLE, Index MR, Index NV>
  INLINE void deposit(Vec (&sum)[MR][NV], Index row, Index column) {
#pragma GCC unroll 8
    for (Index i = 0; i < MR; ++i) {
      float* line = to.at(row + i) + column;
      const float* more = residual.data ? residual.at(row + i) + column : nullptr;
#pragma GCC unroll 8
      for (Index v = 0; v < NV; ++v) {
        const Index left = WHOLE ? lanes : room - column - v * lanes;
        Vec z = sum[i][v] + load(shift + column + v * lanes);
        if (more) z += load_some(more + v * lanes, left);
        store_some(line + v * lanes, finish.template apply<SWISH>(z), left);
      }
    }
  }
};

template <bool SWISH>
INLINE void fetch_ahead(const Deposit<SWISH, true>& out, Index row, Index k) {
  __builtin_prefetch(out.next + row * out.floats_per_row + k * out.floats_per_k);
}

// What one thread works with, and its share of every step.
struct Worker {
  float* arena;
  float* buffer;  // for packed panels, or the rows of an image
  Index image = 0, me = 0, team = 1;
  Range share(Index n, Index grain = 1) const { return part_of(n, grain, me, team); }
};

class Program {
 public:
  Program(const Arguments& args, Scratch& scratch) : args_(args) {
    for (Index i = 0; i < args[2].dim(0); ++i) maps_.emplace_back(args[2] + i * args[2].dim(1));
    for (Index i = 0; i < args[1].dim(0); ++i) steps_.emplace_back(args[1] + i * Step::fields);
    images_ = args[0].dim(0);
    team_ = threads();
    together_ = images_ < 2 * team_;
    lay_out();
    batched_memory_ = scratch.take<float>(batched_floats_);
    arenas_ = scratch.take<float>((together_ ? 1 : team_) * arena_floats_);
    buffers_ = scratch.take<float>(team_ * buffer_floats_);
    folded_ = scratch.take<float>(folded_floats_);
    packed_ = scratch.take<float>(packed_floats_);
    order_ = scratch.take<Index>(order_size_);
  }

  void run() {
    const Index n_steps = steps_.size(), n_panels = panels_.size();
    Barrier barrier(team_);
#pragma omp parallel num_threads(team_)
    {
      const Index me = omp_get_thread_num();
      Worker alone{arenas_ + (together_ ? 0 : me * arena_floats_), buffers_ + me * buffer_floats_};
      Worker joint = alone;
      joint.arena = arenas_, joint.me = me, joint.team = team_;
      const auto walk_together = [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
          step(steps_[i], joint);
          barrier.wait();
        }
      };
#pragma omp for schedule(dynamic, 1) nowait
      for (Index i = 0; i < n_steps; ++i) fold(steps_[i]);
      barrier.wait();
#pragma omp for schedule(dynamic, 4) nowait
      for (Index i = 0; i < n_panels; ++i) pack(panels_[i]);
      barrier.wait();
      if (together_) {
        for (joint.image = 0; joint.image < images_; ++joint.image) walk_together(0, tail_);
      } else {
#pragma omp for schedule(dynamic, 1) nowait
        for (Index image = 0; image < images_; ++image) {
          alone.image = image;
          for (Index i = 0; i < tail_; ++i) step(steps_[i], alone);
        }
        barrier.wait();
      }
      walk_together(tail_, n_steps);
    }
  }

 private:
  struct Packed {
    Index step, group, panel;
  };

  Panels panels_of(const Step& s) const { return Panels(s.inner(), s.out / s.groups); }
  Index padded(const Step& s) const {  // scales and shifts: every group's channels start a new vector
    return s.operation == DEPTHWISE ? maps_[s.source].stride : s.groups * round_up(s.out / s.groups, lanes);
  }
  bool is_tail(const Step& s) const { return maps_[s.target].batched && s.operation != GLOBAL_POOL; }
  // A team shares out lines, which keeps what a thread reads next in its own cache, or channels if lines are too few.
  bool by_lines(const Map& map) const { return map.height >= 6 * team_; }
  // A 1x1 convolution of few pixels packs each panel of weights right before it uses it, each thread for itself.
  bool packs_itself(const Step& s) const {
    const Map& source = maps_[s.source];
    return s.operation == POINTWISE && (is_tail(s) || (together_ && !source.pad && source.pixels() <= 800));
  }

  // Sizes of the maps, and places of everything.
  void lay_out() {
    const Index n = steps_.size();
    for (Index i = 0; i < n; ++i) {
      maps_[steps_[i].source].last_reader = i;
      if (steps_[i].other >= 0) maps_[steps_[i].other].last_reader = i;
    }
    tail_ = n;
    for (Index i = n - 1; i >= 0 && is_tail(steps_[i]); --i) tail_ = i;
    std::vector<Index> live;
    for (Index i = 0; i < n; ++i) {
      Step& s = steps_[i];
      Map& target = maps_[s.target];
      if (!target.stride) {
        const Map& source = maps_[s.source];
        if (target.batched)
          target.settle(images_, 1);
        else if (s.operation == GLOBAL_POOL)
          target.settle(1, 1);
        else if (s.operation == STEM)
          target.settle(divide_up(args_[0].dim(2), s.stride), divide_up(args_[0].dim(3), s.stride));
        else
          target.settle(divide_up(source.height, s.stride), divide_up(source.width, s.stride));
        if (i == n - 1) target.stride = target.channels;  // the result itself
        if (target.batched) {
          target.begin = batched_floats_;
          batched_floats_ += target.floats();
        } else {
          target.begin = place(live, target.floats());
          live.push_back(s.target);
        }
      }
      const auto is_done = [&](Index m) { return m != s.target && maps_[m].last_reader <= i; };
      live.erase(std::remove_if(live.begin(), live.end(), is_done), live.end());
      if (s.operation == COPY || (s.rows && s.operation == POINTWISE)) {
        s.order = order_size_;
        order_size_ += s.channels;
      }
      if (!s.is_convolution()) continue;
      s.scale = folded_floats_;
      folded_floats_ += 2 * padded(s);
      if (s.operation == DEPTHWISE) {
        s.packed = packed_floats_;
        packed_floats_ += s.kernel * s.kernel * padded(s);
        continue;
      }
      const Panels panels = panels_of(s);
      buffer_floats_ = std::max(buffer_floats_, panels.k * most_vectors * lanes);
      if (s.operation == STEM)
        buffer_floats_ = std::max(buffer_floats_, s.channels * s.kernel * (args_[0].dim(3) + 2 * s.kernel));
      if (packs_itself(s)) continue;
      s.packed = packed_floats_;
      packed_floats_ += s.groups * panels.size();
      for (Index g = 0; g < s.groups; ++g)
        for (Index p = 0; p < panels.count; ++p) panels_.push_back({i, g, p});
    }
    buffer_floats_ = round_up(buffer_floats_, 16);
  }

  // The lowest gap between living maps that holds `floats`.
  Index place(const std::vector<Index>& live, Index floats) {
    const auto is_free = [&](Index at) {
      return std::none_of(live.begin(), live.end(), [&](Index m) {
        return at < maps_[m].begin + maps_[m].floats() && maps_[m].begin < at + floats;
      });
    };
    if (is_free(0)) return grow(0, floats);
    Index lowest = arena_floats_;
    for (const Index m : live) {
      const Index behind = round_up(maps_[m].begin + maps_[m].floats(), 16);
      if (behind < lowest && is_free(behind)) lowest = behind;
    }
    return grow(lowest, floats);
  }
  Index grow(Index at, Index floats) {
    arena_floats_ = std::max(arena_floats_, round_up(at + floats, 16));
    return at;
  }

  // Batch norm as a scale, which goes into the weights, and a shift; and orders of shuffled channels.
  void fold(const Step& s) {
    if (s.operation == COPY || (s.rows && s.operation == POINTWISE))
      for (Index c = 0; c < s.channels; ++c) order_[s.order + c] = s.at(c, maps_[s.source].channels);
    if (!s.is_convolution()) return;
    float *scale = folded_ + s.scale, *shift = scale + padded(s);
    const float* const* p = reinterpret_cast<const float* const*>(args_.data) + 3 + s.parameter;
    const Index n = s.out / s.groups, stride = round_up(n, lanes);
    std::fill(scale, scale + 2 * padded(s), 0.f);
    for (Index c = 0; c < s.out; ++c) {
      double a = 1, b = s.has_norm ? 0 : p[1][c];
      if (s.has_norm) {
        a = p[1][c] / std::sqrt(static_cast<double>(p[4][c]) + s.epsilon);
        b = p[2][c] - p[3][c] * a;
      }
      if (s.code == HSIGMOID) a /= 6, b = b / 6 + 0.5;
      const Index at = s.operation == DEPTHWISE ? s.at(c, s.out) : c / n * stride + c % n;
      scale[at] = static_cast<float>(a);
      shift[at] = static_cast<float>(b);
    }
    if (s.operation != DEPTHWISE) return;
    // Taps of one vector of channels after the other.
    const Index area = s.kernel * s.kernel;
    float* to = packed_ + s.packed;
    std::fill(to, to + area * padded(s), 0.f);
    for (Index c = 0; c < s.out; ++c) {
      const Index at = s.at(c, s.out);
      float* tap = to + at / lanes * area * lanes + at % lanes;
      for (Index t = 0; t < area; ++t) tap[t * lanes] = p[0][c * area + t] * scale[at];
    }
  }

  void pack(const Packed& item) {
    const Step& s = steps_[item.step];
    const Panels panels = panels_of(s);
    pack_panel(s, panels, item.group, item.panel,
               packed_ + s.packed + item.group * panels.size() + panels.first(item.panel) * lanes * panels.k);
  }
  void pack_panel(const Step& s, const Panels& panels, Index group, Index panel, float* to) const {
    panels.pack_rows(panel, args_[3 + s.parameter] + group * panels.columns * panels.k,
                     folded_ + s.scale + group * panels.vectors * lanes, to);
  }

  float* memory(Index m, const Worker& worker) const {
    const Map& map = maps_[m];
    if (m == steps_.back().target) return args_[args_.count - 1];
    return (map.batched ? batched_memory_ : worker.arena) + map.begin;
  }
  Place place_of(Index m, const Worker& worker, Index channel = 0) const {
    const Map& map = maps_[m];
    return {memory(m, worker) + map.pad * map.stride + channel, map};
  }
  // Floats of a target's pixel from `channel` that a step may write: up to the end of the pixel if its map ends there.
  Index room(const Step& s, Index channel, Index n) const {
    const Map& map = maps_[s.target];
    return channel + n == map.channels ? map.stride - channel : n;
  }

  void step(const Step& s, const Worker& worker) const {
    if (maps_[s.target].pad) clear_padding(s, worker);
    switch (s.operation) {
      case STEM: return stem(s, worker);
      case POINTWISE: return s.rows ? pointwise<true>(s, worker) : pointwise<false>(s, worker);
      case DEPTHWISE: return depthwise(s, worker);
      case COPY: return copy(s, worker);
      case MAX_POOL:
      case AVG_POOL: return pool(s, worker);
      case GLOBAL_POOL: return global_pool(s, worker);
      default: return gate(s, worker);
    }
  }

  void clear_padding(const Step& s, const Worker& worker) const {
    const Map& map = maps_[s.target];
    const Range lines = worker.share(map.height);
    const Index side = map.pad * map.stride;
    for (Index y = lines.begin; y < lines.end; ++y) {
      float* line = memory(s.target, worker) + y * map.line() * map.stride;
      std::memset(line, 0, side * sizeof(float));
      std::memset(line + side + map.width * map.stride, 0, side * sizeof(float));
    }
  }

  void stem(const Step& s, const Worker& worker) const {
    const Map& to = maps_[s.target];
    const Index height = args_[0].dim(2), width = args_[0].dim(3), pad = s.kernel / 2;
    const Index row = (to.width - 1) * s.stride + s.kernel, copied = std::min(width, row - pad);
    const float* image = args_[0] + worker.image * s.channels * height * width;
    Index offsets[3 * 7 * 7];
    for (Index t = 0; t < s.inner(); ++t) offsets[t] = t / s.kernel * row + t % s.kernel;
    const Panels panels = panels_of(s);
    const Range lines = worker.share(to.height);
    with_swish(s.code, [&](auto swish) {
      for (Index y = lines.begin; y < lines.end; ++y) {
        for (Index r = 0; r < s.channels * s.kernel; ++r) {
          float* copy = worker.buffer + r * row;
          const Index from = y * s.stride - pad + r % s.kernel;
          std::memset(copy, 0, row * sizeof(float));
          if (from >= 0 && from < height)
            std::memcpy(copy + pad, image + (r / s.kernel * height + from) * width, copied * sizeof(float));
        }
        Deposit<swish, false> out{place_of(s.target, worker, s.target_begin), y * to.width,
                                  room(s, s.target_begin, s.out), folded_ + s.scale + padded(s), finish_of(s.code)};
        multiply<true>({worker.buffer, s.stride, offsets}, to.width, panels, packed_ + s.packed, 0, panels.count, out);
      }
    });
  }

  template <bool SHUFFLED>
  void pointwise(const Step& s, const Worker& worker) const {
    const Panels panels = panels_of(s);
    const Map& from = maps_[s.source];
    const Place source = place_of(s.source, worker, SHUFFLED ? 0 : s.begin);
    const Index pixels = from.pixels(), columns = s.groups * panels.count;
    const bool packs = packs_itself(s), lines = by_lines(from) && !from.batched;
    const Range rows = lines ? worker.share(pixels, from.width) : Range{0, pixels};
    const Range share = lines ? Range{0, columns} : worker.share(columns);
    // A tile of pixels, in and out, stays in the second-level cache while the panels pass by.
    const Index fitting = 32 * 1024 / (s.channels + s.out) / row_grain * row_grain;
    const Index tile = packs ? pixels : std::max(fitting, 2 * row_grain);
    const Place target = place_of(s.target, worker, s.target_begin);
    const Place residual = s.other >= 0 ? place_of(s.other, worker) : Place{};
    with_swish(s.code, [&](auto swish) {
      for (Index row = rows.begin, end; row < rows.end; row = end) {
        end = std::min(rows.end, row + tile);
        if (source.gap) end = std::min(end, (row / from.width + 1) * from.width);
        for (Index i = share.begin; i < share.end; ++i) {
          const Index g = i / panels.count, panel = i % panels.count, first = g * panels.columns;
          const Rows a{source.at(row) + (SHUFFLED ? 0 : g * panels.k), source.stride,
                       SHUFFLED ? order_ + s.order + g * panels.k : nullptr};
          float* b = packed_ + s.packed + g * panels.size() + panels.first(panel) * lanes * panels.k;
          if (packs) pack_panel(s, panels, g, panel, b = worker.buffer);
          const float* shift = folded_ + s.scale + padded(s) + g * panels.vectors * lanes;
          const Index end_of_pixel = room(s, s.target_begin + first, panels.columns);
          Place to = target, more = residual;
          to.data += first;
          if (more.data) more.data += first;
          if (end - row > few_pixels) {
            Deposit<swish, false> out{to, row, end_of_pixel, shift, finish_of(s.code), more};
            multiply_panel<SHUFFLED>(a, end - row, panels, panel, b, out);
          } else {
            const Index width = panels.width(panel) * lanes, rows_at_once = kernel_rows(panels.width(panel));
            const float* weights = args_[3 + s.parameter] + (first + panels.first(panel) * lanes) * panels.k;
            Deposit<swish, true> out{to,
                                     row,
                                     end_of_pixel,
                                     shift,
                                     finish_of(s.code),
                                     more,
                                     (packs ? weights : b) + width * panels.k,
                                     panels.k * width / (end - row),
                                     divide_up(width * rows_at_once, end - row)};
            multiply_panel<SHUFFLED>(a, end - row, panels, panel, b, out);
          }
        }
      }
    });
  }

  // XT outputs of one row and one vector of channels; `count` lines of the source from `from` on.
  template <int K, int S, int XT, bool SWISH>
  static INLINE void convolve(const float* from, Index line, Index pixel, Index count, const float* weights, Vec shift,
                              const Finish& finish, float* to, Index to_pixel) {
    Vec sum[XT];
#pragma GCC unroll 8
    for (int i = 0; i < XT; ++i) sum[i] = shift;
    for (Index r = 0; r < count; ++r, from += line, weights += K * lanes) {
      Vec w[K];
#pragma GCC unroll 8
      for (int j = 0; j < K; ++j) keep(w[j] = load(weights + j * lanes));
      add_line<K, S, XT>(from, pixel, w, sum);
    }
#pragma GCC unroll 8
    for (int i = 0; i < XT; ++i) store(to + i * to_pixel, finish.template apply<SWISH>(sum[i]));
  }

  void depthwise(const Step& s, const Worker& worker) const {
    const Map &from = maps_[s.source], &to = maps_[s.target];
    const Index vectors = divide_up(s.out, lanes), area = s.kernel * s.kernel;
    const Index pad = s.kernel / 2, line = from.line() * from.stride;
    // Lines of few channels at a time stay in the first-level cache.
    const Index chunk = std::max<Index>(24 * 1024 / (4 * (s.kernel + s.stride) * from.line()) / 16 * 16, 16) / lanes;
    const Range lines = by_lines(to) ? worker.share(to.height) : Range{0, to.height};
    const Range mine = by_lines(to) ? Range{0, vectors} : worker.share(vectors);
    const float* data = memory(s.source, worker) + (from.pad - pad) * from.stride;
    const float* shift = folded_ + s.scale + padded(s);
    const Place target = place_of(s.target, worker);
    with_kernel(s.kernel, s.stride, [&](auto kernel, auto stride) {
      constexpr int K = kernel, S = stride;
      with_swish(s.code, [&](auto swish) {
        const Finish finish = finish_of(s.code);
        for (Index first = mine.begin; first < mine.end; first += chunk)
          for (Index y = lines.begin; y < lines.end; ++y) {
            const Index top = y * S - pad, begin = std::max<Index>(top, 0), end = std::min(top + K, from.height);
            const float* rows = data + begin * line;
            float* out = target.at(y * to.width);
            for (Index v = first; v < std::min(first + chunk, mine.end); ++v) {
              const Index c = v * lanes;
              const float* weights = packed_ + s.packed + v * area * lanes + (begin - top) * K * lanes;
              const Vec low = load(shift + c);
              Index x = 0;
              const auto part = [&](auto width) {
                for (; x + width <= to.width; x += width)
                  convolve<K, S, width, swish>(rows + x * S * from.stride + c, line, from.stride, end - begin, weights,
                                               low, finish, out + x * to.stride + c, to.stride);
              };
              part(Constant<7>());
              part(Constant<3>());
              part(Constant<1>());
            }
          }
      });
    });
  }

  void copy(const Step& s, const Worker& worker) const {
    const Place from = place_of(s.source, worker), to = place_of(s.target, worker, s.target_begin);
    const Range mine = worker.share(maps_[s.target].pixels(), maps_[s.target].width);
    const Index* order = order_ + s.order;
    const Vec low = finish_of(s.code).low, high = finish_of(s.code).high;
    for (Index p = mine.begin; p < mine.end; ++p) {
      const float* x = from.at(p);
      float* y = to.at(p);
      for (Index c = 0; c < s.channels; ++c) {
        const float value = x[order[c]];
        y[c] = value < low[0] ? low[0] : value > high[0] ? high[0] : value;
      }
    }
  }

  // 3 x 3 windows at stride 2. `same` pads right and bottom where the size is even and averages true elements;
  // otherwise one zero on every side takes part in maximum and average.
  void pool(const Step& s, const Worker& worker) const {
    const Map &in = maps_[s.source], &to = maps_[s.target];
    const Place from = place_of(s.source, worker), target = place_of(s.target, worker, s.target_begin);
    const Finish finish = finish_of(s.code);
    const Index top = s.same ? in.height % 2 : 1, left = s.same ? in.width % 2 : 1;
    const Range mine = worker.share(to.pixels(), to.width);
    for (Index p = mine.begin; p < mine.end; ++p) {
      const Index y = p / to.width * 2 - top, x = p % to.width * 2 - left;
      const Index y0 = std::max<Index>(y, 0), y1 = std::min(y + 3, in.height);
      const Index x0 = std::max<Index>(x, 0), x1 = std::min(x + 3, in.width);
      const Index count = (y1 - y0) * (x1 - x0);
      const bool zero = !s.same && count < 9;
      const Vec share = splat(1.f / static_cast<float>(s.same ? count : 9));
      for (Index c = 0; c < s.channels; c += lanes) {
        Vec sum = {}, best = zero ? Vec{} : splat(-INFINITY);
        for (Index i = y0; i < y1; ++i)
          for (Index j = x0; j < x1; ++j) {
            const Vec v = load(from.at(i * in.width + j) + c);
            sum += v;
            best = at_least(v, best);
          }
        store_some(target.at(p) + c, finish.apply<false>(s.operation == MAX_POOL ? best : sum * share),
                   room(s, s.target_begin, s.channels) - c);
      }
    }
  }

  void global_pool(const Step& s, const Worker& worker) const {
    const Map& from = maps_[s.source];
    const Place source = place_of(s.source, worker), target = place_of(s.target, worker);
    float* to = target.at(maps_[s.target].batched ? worker.image : 0);
    const Range mine = worker.share(divide_up(s.channels, lanes));
    const Index lines = from.height;
    for (Index v = mine.begin; v < mine.end; ++v) {
      Vec sum = {};
      for (Index p = 0; p < lines * from.width; ++p) sum += load(source.at(p) + v * lanes);
      store_some(to + v * lanes, sum * (1.f / static_cast<float>(from.pixels())), room(s, 0, s.channels) - v * lanes);
    }
  }

  void gate(const Step& s, const Worker& worker) const {
    const Place from = place_of(s.source, worker), to = place_of(s.target, worker, s.target_begin);
    const float* gates = place_of(s.other, worker).data;
    const Finish finish = finish_of(s.code);
    const Range mine = worker.share(maps_[s.source].pixels(), maps_[s.source].width);
    for (Index p = mine.begin; p < mine.end; ++p)
      for (Index c = 0; c < s.channels; c += lanes)
        store_some(to.at(p) + c, finish.apply<false>(load(from.at(p) + c) * load(gates + c)),
                   room(s, s.target_begin, s.channels) - c);
  }

  const Arguments& args_;
  std::vector<Map> maps_;
  std::vector<Step> steps_;
  std::vector<Packed> panels_;
  Index images_, team_, tail_ = 0;
  bool together_;
  Index arena_floats_ = 0, batched_floats_ = 0, buffer_floats_ = 0, folded_floats_ = 0, packed_floats_ = 0;
  Index order_size_ = 0;
  float *arenas_, *batched_memory_, *buffers_, *folded_, *packed_;
  Index* order_;
};

}  // namespace cpu

using namespace cpu;

// Images, steps, maps, parameters in the order of the steps -> logits.
OPERATOR_OF(Arguments, network_infer) {
  Scratch scratch;
  Program(args, scratch).run();
}
