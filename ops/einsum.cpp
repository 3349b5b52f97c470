#include <weft/ops/einsum.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/kernel.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

namespace weft {

namespace {

using Labels = std::vector<int>;
using Mask = uint64_t;  // a set of labels

Mask bit(int label) { return Mask{1} << label; }
Mask mask_of(const Labels& labels) {
  Mask m = 0;
  for (int l : labels) m |= bit(l);
  return m;
}

// A tensor whose dimensions have labels, all different.
struct Term {
  Tensor x;
  Labels labels;

  int64_t dim_of(int label) const { return std::find(labels.begin(), labels.end(), label) - labels.begin(); }
};

Labels select_labels(const Labels& from, Mask wanted) {
  Labels out;
  std::copy_if(from.begin(), from.end(), std::back_inserter(out), [&](int l) { return (wanted & bit(l)) != 0; });
  return out;
}

Labels concatenated(Labels a, const Labels& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The diagonal where a label repeats; dimensions that broadcast (size 1 where others have more) are dropped.
Term prepare(const Tensor& x, const Labels& labels, const std::array<int64_t, 64>& sizes) {
  Term t{x, labels};
  for (size_t i = 0; i < t.labels.size(); ++i) {
    const auto again = std::find(t.labels.begin() + static_cast<int64_t>(i) + 1, t.labels.end(), t.labels[i]);
    if (again == t.labels.end()) continue;
    t.x = diagonal(t.x, 0, static_cast<int64_t>(i), again - t.labels.begin());  // becomes the last dimension
    const int label = *again;
    t.labels.erase(again);
    t.labels.erase(t.labels.begin() + static_cast<int64_t>(i--));
    t.labels.push_back(label);
  }
  for (size_t i = t.labels.size(); i-- > 0;) {
    const auto d = static_cast<int64_t>(i);
    if (t.x.size(d) != 1 || sizes[static_cast<size_t>(t.labels[i])] == 1) continue;
    t.x = squeeze(t.x, d);
    t.labels.erase(t.labels.begin() + d);
  }
  return t;
}

// Sums the labels that nobody needs any more.
Term sum_out(Term t, Mask needed) {
  Shape dims;
  for (int l : t.labels) {
    if (!(needed & bit(l))) dims.push_back(t.dim_of(l));
  }
  if (dims.empty()) return t;
  return {sum(t.x, dims).to(t.x.dtype()), select_labels(t.labels, needed)};
}

// The dimensions in the given order; itself where they are.
Tensor arranged(const Term& t, const Labels& order) {
  if (order == t.labels) return t.x;
  Shape dims;
  for (int l : order) dims.push_back(t.dim_of(l));
  return permute(t.x, dims);
}

struct Sizes {
  const std::array<int64_t, 64>& of;
  Shape shape(const Labels& labels) const {
    Shape s;
    for (int l : labels) s.push_back(of[static_cast<size_t>(l)]);
    return s;
  }
  int64_t count(const Labels& labels) const { return shape(labels).numel(); }
};

// Two terms' product, summed over the labels that are not needed.
// output: the order of the whole result, to which this one is brought as near as costs nothing.
Term contract(const Term& a, const Term& b, Mask needed, const Labels& output, const Sizes& sizes) {
  const Mask ma = mask_of(a.labels), mb = mask_of(b.labels);
  const Term& larger = a.x.numel() >= b.x.numel() ? a : b;  // its order decides: it is the one to leave in place
  const Labels batch = select_labels(larger.labels, ma & mb & needed);
  const Labels summed = select_labels(larger.labels, ma & mb & ~needed);
  const Labels left = select_labels(a.labels, ma & ~mb), right = select_labels(b.labels, mb & ~ma);
  if (!left.empty() && !right.empty()) {
    const auto at = [&](int label) { return std::find(output.begin(), output.end(), label); };
    if (at(right[0]) < at(left[0])) return contract(b, a, needed, output, sizes);
  }
  const Labels result = concatenated(concatenated(batch, left), right);

  if (summed.empty() || (left.empty() && right.empty())) {  // element by element, or many short dot products
    const Labels order_b = concatenated(concatenated(batch, right), summed);
    Tensor x = arranged(a, concatenated(concatenated(batch, left), summed)), y = arranged(b, order_b);
    for (size_t i = 0; i < right.size(); ++i) x = unsqueeze(x, static_cast<int64_t>(batch.size() + left.size()));
    for (size_t i = 0; i < left.size(); ++i) y = unsqueeze(y, static_cast<int64_t>(batch.size()));
    return sum_out({mul(x, y), concatenated(result, summed)}, mask_of(result));
  }
  // The batch stays as many dimensions as it has: matmul walks those that memory does not let it merge.
  const auto matrices = [&](const Term& t, const Labels& first, const Labels& second) {
    Shape shape = sizes.shape(batch);
    shape.push_back(sizes.count(first)), shape.push_back(sizes.count(second));
    return reshape(arranged(t, concatenated(concatenated(batch, first), second)), shape);
  };
  const Tensor x = matrices(a, left, summed), y = matrices(b, summed, right);
  return {reshape(matmul(x, y), sizes.shape(result)), result};
}

// --- the order of contractions

// Which two of the terms made so far (operands, then results in turn) to contract next.
using Path = std::vector<std::pair<size_t, size_t>>;

double cost(Mask labels, const Sizes& sizes) {
  double n = 1;
  for (; labels; labels &= labels - 1)
    n *= static_cast<double>(std::max<int64_t>(sizes.of[static_cast<size_t>(std::countr_zero(labels))], 1));
  return n;
}

// The fewest multiplications over all orders, by dynamic programming over sets of operands.
Path best_path(const std::vector<Mask>& terms, Mask output, const Sizes& sizes) {
  const size_t n = terms.size(), sets = size_t{1} << n;
  std::vector<Mask> touched(sets, 0), labels(sets, 0);
  for (size_t s = 1; s < sets; ++s) touched[s] = touched[s & (s - 1)] | terms[static_cast<size_t>(std::countr_zero(s))];
  for (size_t s = 1; s < sets; ++s) labels[s] = touched[s] & (output | touched[sets - 1 - s]);
  std::vector<double> least(sets, std::numeric_limits<double>::infinity());
  std::vector<size_t> half(sets, 0);
  for (size_t s = 1; s < sets; ++s) {
    if (std::has_single_bit(s)) least[s] = 0;
    for (size_t a = (s - 1) & s; a > (s & ~a); a = (a - 1) & s) {
      const double c = least[a] + least[s & ~a] + cost(labels[a] | labels[s & ~a], sizes);
      if (c < least[s] || half[s] == 0) least[s] = c, half[s] = a;
    }
  }
  Path path;
  // Visits a set's halves before the set; returns the number of the term that the set becomes.
  const auto visit = [&](auto&& self, size_t s) -> size_t {
    if (std::has_single_bit(s)) return static_cast<size_t>(std::countr_zero(s));
    const size_t a = self(self, half[s]), b = self(self, s & ~half[s]);
    path.emplace_back(std::min(a, b), std::max(a, b));
    return n + path.size() - 1;
  };
  visit(visit, sets - 1);
  return path;
}

// Each time the pair whose product grows least over its factors.
Path greedy_path(std::vector<Mask> terms, Mask output, const Sizes& sizes) {
  std::vector<size_t> alive(terms.size());
  std::iota(alive.begin(), alive.end(), size_t{0});
  const auto product = [&](size_t a, size_t b) {
    Mask needed = output;
    for (size_t i : alive) {
      if (i != a && i != b) needed |= terms[i];
    }
    return (terms[a] | terms[b]) & needed;
  };
  Path path;
  while (alive.size() > 1) {
    double least = std::numeric_limits<double>::infinity();
    std::pair<size_t, size_t> best{alive[0], alive[1]};
    for (size_t i = 0; i < alive.size(); ++i) {
      for (size_t j = i + 1; j < alive.size(); ++j) {
        const size_t a = alive[i], b = alive[j];
        const double growth = cost(product(a, b), sizes) - cost(terms[a], sizes) - cost(terms[b], sizes);
        if (growth < least) least = growth, best = {a, b};
      }
    }
    terms.push_back(product(best.first, best.second));
    path.push_back(best);
    std::erase_if(alive, [&](size_t i) { return i == best.first || i == best.second; });
    alive.push_back(terms.size() - 1);
  }
  return path;
}

constexpr size_t kExhaustive = 8;  // operands up to which all orders are weighed: 3^8 splits

}  // namespace

Tensor einsum(std::string_view equation, const Tensors& operands) {
  check(!operands.empty(), "einsum: expected at least one operand");
  std::vector<Shape> shapes;
  for (const Tensor& x : operands) shapes.push_back(x.shape());
  const detail::EinsumPlan plan = detail::plan_einsum(equation, shapes);
  const Sizes sizes{plan.sizes};

  std::vector<Term> terms;
  for (size_t i = 0; i < operands.size(); ++i) {
    const Tensor x = operands.size() > 1 ? Autocast::apply(operands[i]) : operands[i];
    check(x.dtype() != boolean, "einsum: not for bool");
    if (i > 0) {
      check_same_device("einsum", {&operands[0], &x});
      check(x.dtype() == terms[0].x.dtype(), "einsum: dtypes differ: ", terms[0].x.dtype(), " and ", x.dtype());
    }
    terms.push_back(prepare(x, plan.operands[i], plan.sizes));
  }

  const Mask output = mask_of(plan.output);
  std::vector<Mask> masks;
  const auto needed_but_by = [&](size_t a, size_t b) {
    Mask needed = output;
    for (size_t i = 0; i < masks.size(); ++i) needed |= i == a || i == b ? 0 : masks[i];
    return needed;
  };
  for (const Term& t : terms) masks.push_back(mask_of(t.labels));
  for (size_t i = 0; i < terms.size(); ++i) {
    terms[i] = sum_out(terms[i], needed_but_by(i, i));
    masks[i] = mask_of(terms[i].labels);
  }

  Path path;
  if (terms.size() > 2)
    path = terms.size() <= kExhaustive ? best_path(masks, output, sizes) : greedy_path(masks, output, sizes);
  else if (terms.size() == 2)
    path = {{0, 1}};
  for (const auto& [a, b] : path) {
    terms.push_back(contract(terms[a], terms[b], needed_but_by(a, b), plan.output, sizes));
    masks.push_back(mask_of(terms.back().labels));
    for (size_t used : {a, b}) terms[used] = {}, masks[used] = 0;
  }
  return arranged(terms.back(), plan.output);
}

}  // namespace weft
