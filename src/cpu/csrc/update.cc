// Updates of all of a network's parameters in one call, in place: an operator for each would cost more to start than to
// run. Tensors come as lists: all weights, then all of each kind of state, then all gradients.
#include <cmath>

#include "runtime.h"

using namespace cpu;

namespace {

// What stands before the lists: factor of the gradients, weight decay of each tensor [N], share of the rate for each
// [N] (0: the tensor and its state stay as they are).
struct Update {
  struct Head {
    Tensor rate, factor, settings, decay, share;
  };
  const Arguments& args;
  Index count;
  float rate, factor;
  const float *settings, *decay, *share;

  explicit Update(const Arguments& args) : args(args) {
    const Head head = args.as<Head>();
    count = head.decay.size(), rate = head.rate[0], factor = head.factor[0];
    settings = head.settings, decay = head.decay, share = head.share;
  }
  static constexpr Index members = sizeof(Head) / sizeof(Tensor);
  float* tensor(Index list, Index i) const { return args[members + list * count + i]; }
  Index size(Index i) const { return args[members + i].size(); }

  // Runs each(tensor, place, n) for every vector of the tensors that have a share, n of its lanes valid.
  template <class Each>
  void run(Each&& each) const {
    Index total = 0;
    for (Index i = 0; i < count; ++i)
      if (share[i] != 0) total += size(i);
    const Index team = threads();
#pragma omp parallel num_threads(team)
    {
      const Range mine = part_of(total, 64, omp_get_thread_num(), team);
      Index first = 0;
      for (Index i = 0; i < count; ++i) {
        if (share[i] == 0) continue;
        const Index n = size(i), end = std::min(mine.end - first, n);
        for (Index at = std::max<Index>(mine.begin - first, 0); at < end; at += lanes)
          each(i, at, std::min(lanes, end - at));
        first += n;
      }
    }
  }

  // The gradient with the weight's decay; gradients are the list behind `states` kinds of state.
  INLINE Vec gradient(Index states, Index i, Index at, Index n, Vec weight) const {
    return load_some(tensor(1 + states, i) + at, n) * factor + weight * decay[i];
  }
};

// v = momentum v + g; w -= rate v, or with Nesterov's rate (g + momentum v). Settings: momentum, nesterov.
void momentum_update_body(const Update& u, Index states) {
  const float momentum = u.settings[0];
  const bool is_nesterov = u.settings[1] != 0;
  u.run([&](Index i, Index at, Index n) {
    float *w = u.tensor(0, i) + at, *v = u.tensor(1, i) + at;
    const Vec weight = load_some(w, n), g = u.gradient(states, i, at, n, weight);
    const Vec velocity = load_some(v, n) * momentum + g;
    store_some(v, velocity, n);
    store_some(w, weight - (is_nesterov ? velocity * momentum + g : velocity) * (u.rate * u.share[i]), n);
  });
}

}  // namespace

// Lists: weights, velocities, gradients.
OPERATOR_OF(Arguments, momentum_update) { momentum_update_body(Update(args), 1); }

// Lists: weights, velocities, the framework's marks of a first update, gradients.
OPERATOR_OF(Arguments, marked_momentum_update) {
  const Update u(args);
  momentum_update_body(u, 2);
  u.run([&](Index i, Index at, Index n) {
    float* mark = u.tensor(2, i) + at;
    if (*mark != 0) store_some(mark, Vec{}, n);
  });
}

// s = d s + (1 - d) g^2; m = momentum m + rate g / sqrt(s + epsilon); w -= m. Settings: d, momentum, epsilon. Lists:
// weights, s, m, gradients.
OPERATOR_OF(Arguments, rmsprop_update) {
  const Update u(args);
  const float d = u.settings[0], momentum = u.settings[1], epsilon = u.settings[2];
  u.run([&](Index i, Index at, Index n) {
    float *w = u.tensor(0, i) + at, *s = u.tensor(1, i) + at, *m = u.tensor(2, i) + at;
    const Vec weight = load_some(w, n), g = u.gradient(2, i, at, n, weight);
    const Vec square = load_some(s, n) * d + g * g * (1 - d);
    Vec root = square + epsilon;
    for (Index lane = 0; lane < lanes; ++lane) root[lane] = std::sqrt(root[lane]);
    const Vec moment = load_some(m, n) * momentum + g * (u.rate * u.share[i]) / root;
    store_some(s, square, n);
    store_some(m, moment, n);
    store_some(w, weight - moment, n);
  });
}

// N tensors -> 1 where no element of any of them is infinite or NaN, else 0 [1].
OPERATOR_OF(Arguments, all_finite) {
  const int count = args.count - 1;
  const Index team = threads();
  Scratch scratch;
  float* sums = scratch.take<float>(team * 16);
#pragma omp parallel num_threads(team)
  {
    const Index me = omp_get_thread_num();
    Vec total = {};  // of zeros, until an infinity or NaN times zero makes it NaN
    for (int i = 0; i < count; ++i) {
      const Range mine = part_of(args[i].size(), 64, me, team);
      for (Index at = mine.begin; at < mine.end; at += lanes) total += load_some(args[i] + at, mine.end - at) * 0.f;
    }
    float all = 0;
    for (Index lane = 0; lane < lanes; ++lane) all += total[lane];
    sums[me * 16] = all;
  }
  float all = 0;
  for (Index t = 0; t < team; ++t) all += sums[t * 16];
  args[count][0] = all == 0;
}
