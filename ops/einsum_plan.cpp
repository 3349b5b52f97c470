// Reading an equation of einsum.
#include <weft/ops/einsum.h>

#include <algorithm>

namespace weft::detail {

namespace {

constexpr int kEllipsis = -1;  // in a list of labels, before its dimensions are known
constexpr size_t kQuoted = 200;

std::string label_name(int label) {
  if (label >= 52) return "...";
  return std::string(1, static_cast<char>(label < 26 ? 'A' + label : 'a' + label - 26));
}

class Reader {
 public:
  explicit Reader(std::string_view equation) : text_(equation) {}

  std::vector<std::vector<int>> operands{1};
  std::vector<int> output;
  bool explicit_output = false;

  template <class... Args>
  void check(bool ok, const Args&... args) const {
    if (ok) [[likely]]
      return;
    fail("einsum: ", args..., " in '", text_.substr(0, kQuoted), text_.size() > kQuoted ? "...'" : "'");
  }

  void read() {
    for (size_t i = 0; i < text_.size(); ++i) {
      const char c = text_[i];
      std::vector<int>& list = explicit_output ? output : operands.back();
      if (c >= 'A' && c <= 'Z') {
        list.push_back(c - 'A');
      } else if (c >= 'a' && c <= 'z') {
        list.push_back(c - 'a' + 26);
      } else if (text_.substr(i, 3) == "...") {
        check(std::find(list.begin(), list.end(), kEllipsis) == list.end(), "a second '...' at position ", i);
        list.push_back(kEllipsis);
        i += 2;
      } else if (c == ',' && !explicit_output) {
        operands.emplace_back();
      } else if (text_.substr(i, 2) == "->" && !explicit_output) {
        explicit_output = true;
        ++i;
      } else {
        check(c == ' ', "unexpected '", c, "' at position ", i);
      }
    }
  }

 private:
  std::string_view text_;
};

// Letters and "..." of one operand as a label for each dimension of shape.
std::vector<int> labels_of(const Reader& r, const std::vector<int>& letters, const Shape& shape, size_t operand) {
  const auto at = std::find(letters.begin(), letters.end(), kEllipsis);
  const auto named = static_cast<int64_t>(letters.size()) - (at != letters.end());
  r.check(at != letters.end() ? shape.size() >= named : shape.size() == named, "operand ", operand, " has shape ",
          shape, ", which is not ", at != letters.end() ? "at least " : "", named,
          named == 1 ? " dimension," : " dimensions,");
  std::vector<int> labels(letters.begin(), at);
  if (at != letters.end()) {
    for (int64_t i = shape.size() - named; i > 0; --i) labels.push_back(static_cast<int>(64 - i));
    labels.insert(labels.end(), at + 1, letters.end());
  }
  return labels;
}

}  // namespace

EinsumPlan plan_einsum(std::string_view equation, const std::vector<Shape>& shapes) {
  Reader r(equation);
  r.read();
  r.check(r.operands.size() == shapes.size(), r.operands.size(), r.operands.size() == 1 ? " operand" : " operands",
          " named, ", shapes.size(), " given,");
  EinsumPlan plan;
  plan.sizes.fill(-1);
  std::array<int, 64> count{};      // dimensions with this label
  std::array<size_t, 64> origin{};  // the operand that a size is from, for errors
  for (size_t k = 0; k < shapes.size(); ++k) {
    plan.operands.push_back(labels_of(r, r.operands[k], shapes[k], k));
    std::array<int64_t, 64> mine;
    mine.fill(-1);
    for (int64_t d = 0; d < shapes[k].size(); ++d) {
      const auto label = static_cast<size_t>(plan.operands[k][static_cast<size_t>(d)]);
      const int64_t n = shapes[k][d];
      int64_t& size = plan.sizes[label];
      r.check(mine[label] < 0 || mine[label] == n, "'", label_name(static_cast<int>(label)), "' has sizes ",
              mine[label], " and ", n, " in operand ", k);
      r.check(size == n || size < 0 || size == 1 || n == 1, "'", label_name(static_cast<int>(label)), "' has size ",
              size, " in operand ", origin[label], " and ", n, " in operand ", k);
      if (size < 0 || size == 1) size = n, origin[label] = k;
      mine[label] = n;
      ++count[label];
    }
  }

  const auto add_ellipsis = [&] {
    for (int label = 52; label < 64; ++label) {
      if (count[static_cast<size_t>(label)] > 0) plan.output.push_back(label);
    }
  };
  if (!r.explicit_output) {
    add_ellipsis();
    for (int label = 0; label < 52; ++label) {
      if (count[static_cast<size_t>(label)] == 1) plan.output.push_back(label);
    }
    return plan;
  }
  for (int label : r.output) {
    if (label == kEllipsis) {
      add_ellipsis();
      continue;
    }
    r.check(count[static_cast<size_t>(label)] > 0, "'", label_name(label), "' of the result is in no operand");
    r.check(std::find(plan.output.begin(), plan.output.end(), label) == plan.output.end(), "'", label_name(label),
            "' is twice in the result");
    plan.output.push_back(label);
  }
  return plan;
}

}  // namespace weft::detail
