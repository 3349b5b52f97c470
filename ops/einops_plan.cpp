// Reading a pattern of einops and working out its sizes.
#include <weft/ops/einops.h>

#include <algorithm>
#include <functional>

namespace weft::detail {

namespace {

constexpr size_t kQuoted = 200;  // bytes of a pattern that an error repeats
constexpr int kMaxAxes = 64;     // names on one side
constexpr int64_t kMaxElements = int64_t{1} << 58;

struct Axis {
  std::string name;     // empty: given by its length; "..." in a pattern, ".0", ".1", ... once its dimensions are known
  int64_t length = -1;  // unknown
  bool is_ellipsis() const { return name == "..."; }
};
struct Group {
  std::vector<Axis> axes;
  bool parentheses = false;
};

std::string text_of(const Axis& a) {
  return a.name.empty() ? std::to_string(a.length) : a.name.starts_with('.') ? "..." : a.name;
}

std::string text_of(const Group& g) {
  if (g.axes.size() == 1) return text_of(g.axes[0]);
  std::string s = "(";
  for (const Axis& a : g.axes) s += (s.size() > 1 ? " " : "") + text_of(a);
  return s + ")";
}

class Planner {
 public:
  Planner(EinopsKind kind, std::string_view pattern, const Shape& shape, const AxisSizes& sizes)
      : kind_(kind), pattern_(pattern), shape_(shape), sizes_(sizes) {}

  EinopsPlan plan() {
    const size_t arrow = pattern_.find("->");
    check(arrow != pattern_.npos, "no '->'");
    left_ = parse(pattern_.substr(0, arrow), 0);
    right_ = parse(pattern_.substr(arrow + 2), arrow + 2);
    check_ellipsis();
    check_sizes();
    name_ellipsis();
    check_names();
    for (size_t i = 0; i < left_.size(); ++i) infer(left_[i], shape_[static_cast<int64_t>(i)], i);
    return assemble();
  }

 private:
  static const char* name(EinopsKind k) {
    return k == EinopsKind::rearrange ? "rearrange" : k == EinopsKind::repeat ? "repeat" : "reduce";
  }

  template <class... Args>
  void check(bool ok, const Args&... args) const {
    if (ok) [[likely]]
      return;
    std::string given;
    for (const auto& [axis, length] : sizes_) given += concat(given.empty() ? " with " : ", ", axis, " = ", length);
    fail(name(kind_), ": ", args..., " in '", pattern_.substr(0, kQuoted), pattern_.size() > kQuoted ? "...'" : "'",
         " for shape ", shape_, given.substr(0, kQuoted));
  }

  // --- reading

  std::vector<Group> parse(std::string_view side, size_t start) const {
    std::vector<Group> groups;
    bool open = false;
    int count = 0;
    for (size_t i = 0; i < side.size();) {
      const char c = side[i];
      size_t length = 1;
      if (c == '(') {
        check(!open, "'(' inside parentheses at position ", start + i);
        open = true;
        groups.emplace_back().parentheses = true;
      } else if (c == ')') {
        check(open, "')' without '(' at position ", start + i);
        open = false;
      } else if (c != ' ') {
        if (!open) groups.emplace_back();
        length = read_axis(side, i, start, groups.back().axes);
        check(++count <= kMaxAxes, "more than ", kMaxAxes, " names");
      }
      i += length;
    }
    check(!open, "'(' without ')'");
    return groups;
  }

  // Appends the axis at side[i...] to group and returns its length in bytes.
  size_t read_axis(std::string_view side, size_t i, size_t start, std::vector<Axis>& group) const {
    if (side.substr(i, 3) == "...") {
      group.push_back({"...", -1});
      return 3;
    }
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto is_word = [&](char c) {
      return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    size_t n = 0;
    while (i + n < side.size() && is_word(side[i + n])) ++n;
    check(n > 0, "unexpected '", side[i], "' at position ", start + i);
    const std::string word(side.substr(i, n));
    if (!is_digit(word[0])) {
      group.push_back({word, -1});
      return n;
    }
    const bool number = n <= 12 && std::all_of(word.begin(), word.end(), is_digit);
    check(number && word[0] != '0', "'", word.substr(0, kQuoted), "' is neither a name nor a length");
    const int64_t length = std::stoll(word);
    const bool allowed = kind_ == EinopsKind::repeat ? start > 0 : kind_ == EinopsKind::reduce && start == 0;
    check(length == 1 || allowed, "a length other than 1, ", length, ", on the ", start > 0 ? "right" : "left");
    if (length != 1) group.push_back({"", length});  // nothing but a size of 1 if it stands alone: an empty group
    return n;
  }

  // --- names

  template <class F>
  static void each(const std::vector<Group>& side, F&& f) {
    for (const Group& g : side) {
      for (const Axis& a : g.axes) f(a);
    }
  }
  static const Axis* find(const std::vector<Group>& side, const std::string& name) {
    const Axis* found = nullptr;
    each(side, [&](const Axis& a) {
      if (a.name == name) found = &a;
    });
    return found;
  }

  void check_ellipsis() const {
    for (const auto* side : {&left_, &right_}) {
      int count = 0;
      each(*side, [&](const Axis& a) { count += a.is_ellipsis(); });
      check(count <= 1, "more than one '...' on the ", side == &left_ ? "left" : "right");
    }
    const bool on_left = find(left_, "..."), on_right = find(right_, "...");
    check(on_left || !on_right, "'...' only on the right");
    check(on_right || !on_left || kind_ == EinopsKind::reduce, "'...' only on the left");
    for (const Group& g : left_) {
      const bool inside = g.parentheses && std::any_of(g.axes.begin(), g.axes.end(), std::mem_fn(&Axis::is_ellipsis));
      check(!inside, "'...' in parentheses on the left");
    }
  }

  // "..." becomes as many axes as the shape has left for it.
  void name_ellipsis() {
    const bool ellipsis = find(left_, "...");
    const int64_t others = static_cast<int64_t>(left_.size()) - ellipsis;
    check(ellipsis ? shape_.size() >= others : shape_.size() == others, "expected ", ellipsis ? "at least " : "",
          others, others == 1 ? " dimension," : " dimensions,", " got ", shape_.size());
    if (!ellipsis) return;
    std::vector<Axis> axes;
    for (int64_t i = 0; i < shape_.size() - others; ++i) axes.push_back({concat(".", i), -1});
    for (auto* side : {&left_, &right_}) {
      std::vector<Group> named;
      for (Group& g : *side) {
        const auto at = std::find_if(g.axes.begin(), g.axes.end(), [](const Axis& a) { return a.is_ellipsis(); });
        if (at == g.axes.end()) {
          named.push_back(g);
        } else if (g.parentheses) {
          g.axes.insert(g.axes.erase(at), axes.begin(), axes.end());
          named.push_back(g);
        } else {
          for (const Axis& a : axes) named.push_back({{a}, false});
        }
      }
      *side = std::move(named);
    }
  }

  void check_names() const {
    for (const auto* side : {&left_, &right_}) {
      std::vector<std::string> seen;
      each(*side, [&](const Axis& a) {
        if (!a.name.empty()) seen.push_back(a.name);
      });
      std::sort(seen.begin(), seen.end());
      const auto twice = std::adjacent_find(seen.begin(), seen.end());
      check(twice == seen.end(), "'", twice == seen.end() ? "" : *twice, "' is twice on the ",
            side == &left_ ? "left" : "right");
    }
    each(left_, [&](const Axis& a) {
      check(kind_ == EinopsKind::reduce || find(right_, a.name), "'", a.name, "' is only on the left");
    });
    each(right_, [&](const Axis& a) {
      if (a.name.empty() || find(left_, a.name)) return;
      check(kind_ == EinopsKind::repeat, "'", a.name, "' is only on the right");
      check(given(a.name) >= 0, "no size for '", a.name, "'");
    });
  }

  void check_sizes() const {
    for (size_t i = 0; i < sizes_.size(); ++i) {
      const auto& [axis, length] = sizes_[i];
      const bool name = !axis.empty() && axis[0] != '.';  // not one of ours
      check(name && (find(left_, axis) || find(right_, axis)), "a size for '", axis, "', which is not");
      check(length >= 0, "a negative size for '", axis, "'");
      for (size_t k = 0; k < i; ++k) check(sizes_[k].first != axis, "two sizes for '", axis, "'");
    }
  }

  int64_t given(const std::string& axis) const {
    for (const auto& [name, length] : sizes_) {
      if (name == axis) return length;
    }
    return -1;
  }

  // --- sizes

  // Works out the lengths of a group's axes from that of the whole.
  void infer(Group& group, int64_t whole, size_t dimension) {
    int64_t known = 1;
    Axis* unknown = nullptr;
    bool fits = true;
    for (Axis& a : group.axes) {
      if (!a.name.empty()) a.length = given(a.name);
      if (a.length >= 0) {
        fits = fits && !__builtin_mul_overflow(known, a.length, &known);
      } else {
        check(!unknown, "sizes of both '", unknown ? unknown->name : "", "' and '", a.name, "' are missing");
        unknown = &a;
      }
    }
    if (!unknown) {
      check(fits && known == whole, group.axes.empty() ? "1" : text_of(group), " does not fit dimension ", dimension);
    } else {
      check(fits && known > 0 && whole % known == 0, text_of(group), " cannot divide dimension ", dimension);
      unknown->length = whole / known;
    }
  }

  int64_t length_of(const Axis& a) const {
    if (a.name.empty()) return a.length;
    const Axis* from = find(left_, a.name);
    return from ? from->length : given(a.name);
  }

  // A count of elements that memory can hold; sizes of 0 count as 1, since strides must be representable too.
  void check_count(const Shape& shape) const {
    int64_t n = 1;
    bool fits = true;
    for (int64_t d : shape) fits = fits && !__builtin_mul_overflow(n, std::max<int64_t>(d, 1), &n);
    check(fits && n < kMaxElements, "too many elements");
  }

  EinopsPlan assemble() const {
    int64_t axes = 0;
    each(left_, [&](const Axis&) { ++axes; });
    int64_t axes_right = 0;
    each(right_, [&](const Axis&) { ++axes_right; });
    check(std::max(axes, axes_right) <= kMaxDims && static_cast<int64_t>(right_.size()) <= kMaxDims, "more than ",
          kMaxDims, " dimensions");
    EinopsPlan p;
    std::vector<std::string> kept;  // names, in the order of the dimensions that are left after reducing
    each(left_, [&](const Axis& a) {
      if (a.name.empty() || !find(right_, a.name))
        p.reduced.push_back(p.split.size());
      else
        kept.push_back(a.name);
      p.split.push_back(a.length);
    });
    for (const Group& g : right_) {
      int64_t size = 1;
      bool fits = true;
      for (const Axis& a : g.axes) {
        const int64_t length = length_of(a);
        const auto at = std::find(kept.begin(), kept.end(), a.name);
        const bool old = !a.name.empty() && at != kept.end();
        if (old) p.order.push_back(at - kept.begin());
        p.spaced.push_back(old ? length : 1);
        p.expanded.push_back(length);
        fits = fits && !__builtin_mul_overflow(size, length, &size);
      }
      check(fits, "too many elements");
      p.result.push_back(size);
    }
    check_count(p.split), check_count(p.expanded), check_count(p.result);
    return p;
  }

  EinopsKind kind_;
  std::string_view pattern_;
  const Shape& shape_;
  const AxisSizes& sizes_;
  std::vector<Group> left_, right_;
};

}  // namespace

EinopsPlan plan_einops(EinopsKind kind, std::string_view pattern, const Shape& shape, const AxisSizes& sizes) {
  return Planner(kind, pattern, shape, sizes).plan();
}

}  // namespace weft::detail
