// Printing follows PyTorch: one width and one notation for all elements, lines of 80 characters, and beyond 1000
// elements only three at either end of each dimension.
#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/shape.h>
#include <weft/tensor/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <ostream>

namespace weft {

namespace {

constexpr int64_t kThreshold = 1000;  // elements that are all printed
constexpr int64_t kEdge = 3;          // elements kept at either end
constexpr size_t kLine = 80;

std::string spaces(size_t n) { return std::string(n, ' '); }

std::string formatted(const char* format, double v) {
  char buffer[512];  // the longest double in %f takes 314
  std::snprintf(buffer, sizeof buffer, format, v);
  return buffer;
}

class Printer {
 public:
  // x: on the host, without the elided middles
  Printer(const Tensor& x, std::vector<bool> elided) : shape_(x.shape()), elided_(std::move(elided)) {
    if (x.is_floating())
      format_floats(x.to_vector<double>());
    else
      format_integers(x.to_vector<int64_t>(), x.dtype() == boolean);
    for (std::string& s : texts_) s.insert(0, spaces(width_ > s.size() ? width_ - s.size() : 0));
  }

  // indent: characters before this on its line
  std::string print(size_t indent) {
    element(0, indent);
    return std::move(out_);
  }

 private:
  // As integers with a point if all are; else with four decimals; scientific where magnitudes are far apart, large or
  // small. Infinities, NaN and zeros have no say in the width.
  void format_floats(const std::vector<double>& values) {
    double low = std::numeric_limits<double>::infinity(), high = 0;
    bool integers = true;
    for (double v : values) {
      if (!std::isfinite(v) || v == 0) continue;
      low = std::min(low, std::abs(v)), high = std::max(high, std::abs(v));
      integers = integers && v == std::ceil(v);
    }
    const bool scientific = high > 0 && (high / low > 1000 || high > 1e8 || low < 1e-4);
    for (double v : values) {
      std::string s = formatted(scientific ? "%.4e" : integers ? "%.0f" : "%.4f", v);
      if (integers && !scientific && std::isfinite(v)) s += '.';
      if (std::isfinite(v) && v != 0) width_ = std::max(width_, s.size());
      if (std::isnan(v)) s = "nan";  // without a sign
      texts_.push_back(std::move(s));
    }
  }

  void format_integers(const std::vector<int64_t>& values, bool boolean) {
    for (int64_t v : values) {
      texts_.push_back(!boolean ? std::to_string(v) : v ? "True" : "False");
      width_ = std::max(width_, texts_.back().size());
    }
  }

  void element(int64_t d, size_t indent) {
    if (d == shape_.size())
      out_ += texts_[next_++];
    else if (d + 1 == shape_.size())
      vector(indent);
    else
      slices(d, indent);
  }

  // "[1, 2, 3,  ..., 7, 8, 9]", broken into lines
  void vector(size_t indent) {
    const bool gap = elided_.back();
    const auto per_line = static_cast<int64_t>(indent < kLine ? (kLine - indent) / (width_ + 2) : 0);
    out_ += '[';
    for (int64_t i = 0; i < shape_.back() + gap; ++i) {
      if (i > 0) out_ += i % std::max<int64_t>(per_line, 1) ? ", " : ",\n" + spaces(indent + 1);
      out_ += gap && i == kEdge ? " ..." : texts_[next_++];
    }
    out_ += ']';
  }

  void slices(int64_t d, size_t indent) {
    const auto blank = static_cast<size_t>(shape_.size() - d - 1);
    const std::string separator = "," + std::string(blank, '\n') + spaces(indent + 1);
    out_ += '[';
    for (int64_t i = 0; i < shape_[d]; ++i) {
      if (i > 0) out_ += separator;
      if (elided_[static_cast<size_t>(d)] && i == kEdge) out_ += "..." + separator;
      element(d + 1, indent + 1);
    }
    out_ += ']';
  }

  std::string out_;
  Shape shape_;
  std::vector<bool> elided_;  // by dimension: its middle is left out
  std::vector<std::string> texts_;
  size_t width_ = 1, next_ = 0;
};

std::string elements(Tensor x, size_t indent) {
  if (x.numel() == 0) return "[]";
  std::vector<bool> elided(static_cast<size_t>(x.dim()), false);
  if (x.numel() > kThreshold) {  // only the ends travel to the host
    for (int64_t d = 0; d < x.dim(); ++d) {
      if (x.size(d) <= 2 * kEdge) continue;
      elided[static_cast<size_t>(d)] = true;
      x = cat({slice(x, d, 0, kEdge), slice(x, d, -kEdge)}, d);
    }
  }
  return Printer(x, std::move(elided)).print(indent);
}

std::vector<std::string> suffixes(const Tensor& x) {
  std::vector<std::string> list;
  if (!x.device().is_cpu()) list.push_back(concat("device='", x.device(), "'"));
  if (x.numel() == 0 && x.dim() != 1) list.push_back(concat("size=", x.shape()));
  const bool plain = x.dtype() == float32 || (x.numel() > 0 && (x.dtype() == int64 || x.dtype() == boolean));
  if (!plain) list.push_back(concat("dtype=", x.dtype()));
  if (x.grad_fn())
    list.push_back(concat("grad_fn=<", x.grad_fn()->name, ">"));
  else if (x.requires_grad())
    list.push_back("requires_grad=True");
  return list;
}

}  // namespace

std::string to_string(const Tensor& x) {
  if (!x.defined()) return "tensor(undefined)";
  const NoGrad guard;
  const std::string prefix = "tensor(";
  std::string s = prefix + elements(x.detach(), prefix.size());
  const size_t newline = s.rfind('\n');
  size_t line = newline == s.npos ? s.size() + 2 : s.size() - newline + 1;  // with the separator that would follow
  for (const std::string& suffix : suffixes(x)) {
    if (line + suffix.size() + 2 > kLine) {
      s += ",\n" + spaces(prefix.size());
      line = prefix.size() + suffix.size();
    } else {
      s += ", ";
      line += suffix.size() + 2;
    }
    s += suffix;
  }
  return s + ")";
}

void put(std::string& s, const Tensor& x) { s += to_string(x); }

std::ostream& operator<<(std::ostream& out, const Tensor& x) { return out << to_string(x); }

}  // namespace weft
