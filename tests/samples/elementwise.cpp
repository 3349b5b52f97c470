#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

using Fn1 = double (*)(double);
using Fn2 = double (*)(double, double);

double sigmoid_of(double v) { return v >= 0 ? 1 / (1 + std::exp(-v)) : std::exp(v) / (1 + std::exp(v)); }
double softplus_of(double v) { return std::max(v, 0.0) + std::log1p(std::exp(-std::abs(v))); }
double floor_div(double a, double b) { return (a - (a - b * std::floor(a / b))) / b; }
double py_mod(double a, double b) { return a - b * std::floor(a / b); }

struct Unary {
  const char* op;
  Tensor (*call)(const Tensor&);
  Fn1 reference;
  double low, high;  // where the function is smooth enough for half precision too
  int order = 2;
  double scale = 1;
};

// Saved results are rounded to the dtype: near saturation eight bits of y know little of the derivative 1 - y².
constexpr double kSaturates = 4;

// Domains keep away from poles, where an input rounded to eight bits says little about the result.
const Unary unaries[] = {
    {"neg", neg, [](double v) { return -v; }, -2, 2},
    {"abs", abs, [](double v) { return std::fabs(v); }, -2, 2},
    {"sign", sign, [](double v) { return v > 0   ? 1.0
                                         : v < 0 ? -1.0
                                                 : 0.0; }, -2, 2},
    {"square", square, [](double v) { return v * v; }, -2, 2},
    {"reciprocal", reciprocal, [](double v) { return 1 / v; }, 0.3, 3},
    {"reciprocal", reciprocal, [](double v) { return 1 / v; }, -3, -0.3},
    {"sqrt", sqrt, [](double v) { return std::sqrt(v); }, 0.1, 4},
    {"rsqrt", rsqrt, [](double v) { return 1 / std::sqrt(v); }, 0.1, 4},
    {"exp", exp, [](double v) { return std::exp(v); }, -4, 4},
    {"exp2", exp2, [](double v) { return std::exp2(v); }, -4, 4},
    {"expm1", expm1, [](double v) { return std::expm1(v); }, -3, 3},
    {"expm1", expm1, [](double v) { return std::expm1(v); }, -1e-3, 1e-3},
    {"log", log, [](double v) { return std::log(v); }, 0.05, 8},
    {"log2", log2, [](double v) { return std::log2(v); }, 0.05, 8},
    {"log10", log10, [](double v) { return std::log10(v); }, 0.05, 8},
    {"log1p", log1p, [](double v) { return std::log1p(v); }, -0.8, 4},
    {"log1p", log1p, [](double v) { return std::log1p(v); }, -1e-3, 1e-3},
    {"sin", sin, [](double v) { return std::sin(v); }, -7, 7},
    {"cos", cos, [](double v) { return std::cos(v); }, -7, 7},
    {"tan", tan, [](double v) { return std::tan(v); }, -1.2, 1.2},
    {"asin", asin, [](double v) { return std::asin(v); }, -0.9, 0.9},
    {"acos", acos, [](double v) { return std::acos(v); }, -0.9, 0.9},
    {"atan", atan, [](double v) { return std::atan(v); }, -4, 4},
    {"sinh", sinh, [](double v) { return std::sinh(v); }, -3, 3},
    {"cosh", cosh, [](double v) { return std::cosh(v); }, -3, 3},
    {"tanh", tanh, [](double v) { return std::tanh(v); }, -4, 4, 2, kSaturates},
    {"asinh", asinh, [](double v) { return std::asinh(v); }, -4, 4},
    {"acosh", acosh, [](double v) { return std::acosh(v); }, 1.2, 5},
    {"atanh", atanh, [](double v) { return std::atanh(v); }, -0.8, 0.8},
    {"erf", erf, [](double v) { return std::erf(v); }, -3, 3},
    {"erfc", erfc, [](double v) { return std::erfc(v); }, -3, 3},
    {"lgamma", lgamma, [](double v) { return std::lgamma(v); }, 0.2, 9, 0},
    {"floor", floor, [](double v) { return std::floor(v); }, -4, 4},
    {"ceil", ceil, [](double v) { return std::ceil(v); }, -4, 4},
    {"round", round, [](double v) { return std::nearbyint(v); }, -4, 4},
    {"trunc", trunc, [](double v) { return std::trunc(v); }, -4, 4},
    {"sigmoid", sigmoid, sigmoid_of, -8, 8, 2, kSaturates},
    {"softplus", softplus, softplus_of, -8, 8},
    {"log_sigmoid", log_sigmoid, [](double v) { return -softplus_of(-v); }, -8, 8},
    {"relu", relu, [](double v) { return v > 0 ? v : 0.0; }, -2, 2},
    {"gelu", gelu, [](double v) { return v / 2 * std::erfc(-v * M_SQRT1_2); }, -4, 4},
    {"gelu_tanh", gelu_tanh,
     [](double v) { return v / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))); }, -4, 4},
    {"silu", silu, [](double v) { return v * sigmoid_of(v); }, -6, 6},
    {"mish", mish, [](double v) { return v * std::tanh(softplus_of(v)); }, -6, 6},
    {"relu_squared", relu_squared, [](double v) { return v > 0 ? v * v : 0.0; }, -2, 2},
};

void add_unary(SampleList& l, const Unary& u) {
  const std::pair<const char*, Shape> shapes[] = {
      {"odd", {3, 7}}, {"scalar", {}}, {"one", {1, 1}}, {"none", {0, 3}}, {"blocks and a tail", {1, 1031}}};
  for (const auto& [variant, shape] : shapes) {
    l.samples.push_back({.op = u.op,
                         .variant = concat(variant, " in [", u.low, ", ", u.high, ")"),
                         .inputs = {values(shape, 1, u.low, u.high)},
                         .call = [f = u.call](const Tensors& x) -> Tensors { return {f(x[0])}; },
                         .reference = [f = u.reference](const Tensors& x) -> Tensors { return {map1(x[0], f)}; },
                         .order = u.order,
                         .scale = u.scale});
  }
}

struct Binary {
  const char* op;
  Tensor (*call)(const Tensor&, const Tensor&);
  Fn2 reference;
  double low_a, high_a, low_b, high_b;
  double scale = 1;
};

const Binary binaries[] = {
    {"add", add, [](double a, double b) { return a + b; }, -2, 2, -2, 2},
    {"sub", sub, [](double a, double b) { return a - b; }, -2, 2, -2, 2},
    {"mul", mul, [](double a, double b) { return a * b; }, -2, 2, -2, 2},
    {"div", div, [](double a, double b) { return a / b; }, -2, 2, 0.4, 2},
    {"pow", pow, [](double a, double b) { return std::pow(a, b); }, 0.3, 2, -2, 3},
    {"maximum", maximum, [](double a, double b) { return std::max(a, b); }, -2, 2, -2, 2},
    {"minimum", minimum, [](double a, double b) { return std::min(a, b); }, -2, 2, -2, 2},
    {"fmod", fmod, [](double a, double b) { return std::fmod(a, b); }, -5, 5, 1, 2},
    {"remainder", remainder, py_mod, -5, 5, 1, 2},
    {"remainder", remainder, py_mod, -5, 5, -2, -1},
    {"atan2", atan2, [](double a, double b) { return std::atan2(a, b); }, 0.3, 2, -2, 2,
     2},  // a broadcast operand's gradient is a sum of rounded terms of both signs
};

void add_binary(SampleList& l, const Binary& b) {
  struct Case {
    const char* variant;
    Shape a, b;
  };
  const Case cases[] = {{"same shape", {3, 5}, {3, 5}},     {"both broadcast", {3, 1, 5}, {2, 1}},
                        {"row and column", {4, 1}, {1, 3}}, {"with a scalar", {2, 3}, {}},
                        {"none", {0, 3}, {1, 3}},           {"blocks and a tail", {2, 1031}, {1031}}};
  for (const Case& c : cases) {
    l.samples.push_back({.op = b.op,
                         .variant = concat(c.variant, ", b in [", b.low_b, ", ", b.high_b, ")"),
                         .inputs = {values(c.a, 1, b.low_a, b.high_a), values(c.b, 2, b.low_b, b.high_b)},
                         .call = [f = b.call](const Tensors& x) -> Tensors { return {f(x[0], x[1])}; },
                         .reference = [f = b.reference](const Tensors& x) -> Tensors { return {map2(x[0], x[1], f)}; },
                         .scale = b.scale});
  }
}

// Overloads that take a number, and parameters.
void add_scalar(SampleList& l, const char* op, const char* variant, std::function<Tensor(const Tensor&)> call,
                std::function<double(double)> reference, double low = -2, double high = 2) {
  l.samples.push_back({.op = op,
                       .variant = variant,
                       .inputs = {values({3, 7}, 3, low, high)},
                       .call = [call](const Tensors& x) -> Tensors { return {call(x[0])}; },
                       .reference = [reference](const Tensors& x) -> Tensors { return {map1(x[0], reference)}; }});
}

void add_scalars(SampleList& l) {
  add_scalar(
      l, "add", "number", [](const Tensor& x) { return add(x, 1.5); }, [](double v) { return v + 1.5; });
  add_scalar(
      l, "sub", "number", [](const Tensor& x) { return sub(x, 1.5); }, [](double v) { return v - 1.5; });
  add_scalar(
      l, "sub", "from a number", [](const Tensor& x) { return sub(1.5, x); }, [](double v) { return 1.5 - v; });
  add_scalar(
      l, "mul", "number", [](const Tensor& x) { return mul(x, -3); }, [](double v) { return v * -3; });
  add_scalar(
      l, "div", "by a number", [](const Tensor& x) { return div(x, 4); }, [](double v) { return v / 4; });
  add_scalar(
      l, "div", "of a number", [](const Tensor& x) { return div(1.5, x); }, [](double v) { return 1.5 / v; }, 0.4, 2);
  for (const double p : {0.0, 1.0, 2.0, 3.0, 0.5, -1.5}) {
    add_scalar(
        l, "pow", "to a number", [p](const Tensor& x) { return pow(x, p); }, [p](double v) { return std::pow(v, p); },
        0.3, 2);
  }
  add_scalar(
      l, "pow", "negative to a whole number", [](const Tensor& x) { return pow(x, 3); },
      [](double v) { return v * v * v; }, -2, -0.3);
  add_scalar(
      l, "pow", "of a number", [](const Tensor& x) { return pow(2.5, x); }, [](double v) { return std::pow(2.5, v); });
  add_scalar(
      l, "pow", "of zero", [](const Tensor& x) { return pow(0, x); }, [](double v) { return std::pow(0, v); }, 0.5, 2);
  add_scalar(
      l, "fmod", "number", [](const Tensor& x) { return fmod(x, 1.3); }, [](double v) { return std::fmod(v, 1.3); }, -5,
      5);
  add_scalar(
      l, "remainder", "number", [](const Tensor& x) { return remainder(x, 1.3); },
      [](double v) { return py_mod(v, 1.3); }, -5, 5);
  add_scalar(
      l, "remainder", "negative number", [](const Tensor& x) { return remainder(x, -1.3); },
      [](double v) { return py_mod(v, -1.3); }, -5, 5);
  add_scalar(
      l, "clamp", "both", [](const Tensor& x) { return clamp(x, -0.7, 1.1); },
      [](double v) { return std::min(std::max(v, -0.7), 1.1); });
  add_scalar(
      l, "clamp", "all to the upper limit where limits cross", [](const Tensor& x) { return clamp(x, 3, 1); },
      [](double) { return 1.0; });
  add_scalar(
      l, "clamp_min", "whole number", [](const Tensor& x) { return clamp_min(x, 0); },
      [](double v) { return std::max(v, 0.0); });
  add_scalar(
      l, "clamp_max", "number", [](const Tensor& x) { return clamp_max(x, 0.3); },
      [](double v) { return std::min(v, 0.3); });
  for (const double slope : {0.01, 0.2}) {
    add_scalar(
        l, "leaky_relu", "slope", [slope](const Tensor& x) { return leaky_relu(x, slope); },
        [slope](double v) { return v > 0 ? v : slope * v; });
  }
  for (const double alpha : {1.0, 0.5}) {
    add_scalar(
        l, "elu", "alpha", [alpha](const Tensor& x) { return elu(x, alpha); },
        [alpha](double v) { return v > 0 ? v : alpha * std::expm1(v); });
  }
}

// --- results without a gradient ----------------------------------------------------------------------------------

struct Predicate {
  const char* op;
  Tensor (*call)(const Tensor&, const Tensor&);
  Tensor (*with_number)(const Tensor&, Scalar);  // may be none
  bool (*reference)(double, double);
};

const Predicate predicates[] = {
    {"eq", eq, eq, [](double a, double b) { return a == b; }},
    {"ne", ne, ne, [](double a, double b) { return a != b; }},
    {"lt", lt, lt, [](double a, double b) { return a < b; }},
    {"le", le, le, [](double a, double b) { return a <= b; }},
    {"gt", gt, gt, [](double a, double b) { return a > b; }},
    {"ge", ge, ge, [](double a, double b) { return a >= b; }},
    {"logical_and", logical_and, nullptr, [](double a, double b) { return a != 0 && b != 0; }},
    {"logical_or", logical_or, nullptr, [](double a, double b) { return a != 0 || b != 0; }},
    {"logical_xor", logical_xor, nullptr, [](double a, double b) { return (a != 0) != (b != 0); }},
};

Tensor truth(const Tensor& v) { return v.to(boolean); }

// Whole numbers in [-2, 2], so that equal pairs and zeros occur, also in half precision.
Tensor whole(const Shape& shape, uint64_t seed) {
  return map1(values(shape, seed, -2.5, 2.5), [](double v) { return std::nearbyint(v); });
}

void add_predicates(SampleList& l) {
  for (const Predicate& p : predicates) {
    const auto reference = [f = p.reference](const Tensor& a, const Tensor& b) {
      return truth(map2(a, b, [f](double x, double y) { return f(x, y) ? 1.0 : 0.0; }));
    };
    const auto call = [f = p.call](const Tensors& x) -> Tensors { return {f(x[0], x[1])}; };
    const auto expected = [reference](const Tensors& x) -> Tensors { return {reference(x[0], x[1])}; };
    const auto add = [&](const char* variant, Tensor a, Tensor b) {
      l.samples.push_back(
          {.op = p.op, .variant = variant, .inputs = {a, b}, .call = call, .reference = expected, .order = 0});
    };
    add("broadcast", whole({3, 1, 5}, 1), whole({4, 1}, 2));
    add("none", whole({0, 2}, 1), whole({1, 2}, 2));
    add("integers", whole({3, 5}, 1).to(int64), whole({5}, 2).to(int32));
    add("integer and float", whole({3, 5}, 1).to(int64), whole({5}, 2));
    add("bool", whole({3, 5}, 1).to(boolean), whole({5}, 2).to(boolean));
    if (p.with_number) {
      l.samples.push_back(
          {.op = p.op,
           .variant = "number",
           .inputs = {whole({3, 5}, 1)},
           .call = [f = p.with_number](const Tensors& x) -> Tensors { return {f(x[0], 1)}; },
           .reference = [reference](const Tensors& x) -> Tensors { return {reference(x[0], scalar(1))}; },
           .order = 0});
    }
  }
  const std::tuple<const char*, Tensor (*)(const Tensor&), Fn1> tests[] = {
      {"isnan", isnan, [](double v) { return std::isnan(v) ? 1.0 : 0.0; }},
      {"isinf", isinf, [](double v) { return std::isinf(v) ? 1.0 : 0.0; }},
      {"isfinite", isfinite, [](double v) { return std::isfinite(v) ? 1.0 : 0.0; }},
      {"logical_not", logical_not, [](double v) { return v == 0 ? 1.0 : 0.0; }}};
  for (const auto& [op, f, g] : tests) {
    const std::pair<const char*, Tensor> inputs[] = {
        {"not finite", tensor(std::vector<double>{0, -0.0, 1.5, NAN, INFINITY, -INFINITY, -1}, {7})},
        {"none", values({2, 0}, 1)},
        {"integers", whole({5}, 4).to(int64)}};
    for (const auto& [variant, x] : inputs) {
      l.samples.push_back({.op = op,
                           .variant = variant,
                           .inputs = {x},
                           .call = [f = f](const Tensors& x) -> Tensors { return {f(x[0])}; },
                           .reference = [g = g](const Tensors& x) -> Tensors { return {truth(map1(x[0], g))}; },
                           .order = 0});
    }
  }
}

void add_floor_divide(SampleList& l) {
  const auto add = [&](const char* variant, Tensor a, Tensor b, DType result) {
    l.samples.push_back(
        {.op = "floor_divide",
         .variant = variant,
         .inputs = {a, b},
         .call = [](const Tensors& x) -> Tensors { return {floor_divide(x[0], x[1])}; },
         .reference = [result](const Tensors& x) -> Tensors { return {map2(x[0], x[1], floor_div).to(result)}; },
         .order = 0});
  };
  add("broadcast", values({3, 1, 5}, 1, -5, 5), values({2, 1}, 2, 0.5, 2), float64);
  add("negative divisor", values({3, 5}, 1, -5, 5), values({3, 5}, 2, -2, -0.5), float64);
  add("integers of all signs", tensor(std::vector<int64_t>{7, -7, 7, -7, 6, 0}, {6}),
      tensor(std::vector<int64_t>{2, 2, -2, -2, -3, 5}, {6}), int64);
  add("none", values({0, 5}, 1), values({5}, 2, 1, 2), float64);
  l.samples.push_back({.op = "floor_divide",
                       .variant = "by a number",
                       .inputs = {values({3, 5}, 1, -5, 5)},
                       .call = [](const Tensors& x) -> Tensors { return {floor_divide(x[0], -1.5)}; },
                       .reference = [](const Tensors& x) -> Tensors {
                         return {map1(x[0], [](double v) { return floor_div(v, -1.5); })};
                       },
                       .order = 0});
}

// --- integers ----------------------------------------------------------------------------------------------------

void add_integers(SampleList& l) {
  const std::tuple<const char*, Tensor (*)(const Tensor&, const Tensor&), Fn2> ops[] = {
      {"add", add, [](double a, double b) { return a + b; }},
      {"sub", sub, [](double a, double b) { return a - b; }},
      {"mul", mul, [](double a, double b) { return a * b; }},
      {"maximum", maximum, [](double a, double b) { return std::max(a, b); }},
      {"minimum", minimum, [](double a, double b) { return std::min(a, b); }},
      {"fmod", fmod, [](double a, double b) { return std::fmod(a, b); }},
      {"remainder", remainder, py_mod},
      {"pow", pow, [](double a, double b) { return std::trunc(std::pow(a, b)); }}};
  const Tensor a = tensor(std::vector<int64_t>{7, -7, 7, -7, 1, -1}, {6});
  const Tensor b = tensor(std::vector<int64_t>{3, 3, -3, -2, -2, -3}, {6});
  for (const auto& [op, f, g] : ops) {
    for (const DType d : {int64, int32}) {
      l.samples.push_back(
          {.op = op,
           .variant = concat(d, " of all signs"),
           .inputs = {a.to(d), b},
           .call = [f = f](const Tensors& x) -> Tensors { return {f(x[0], x[1])}; },
           .reference = [g = g](const Tensors& x) -> Tensors { return {map2(x[0], x[1], g).to(int64)}; },
           .order = 0});
    }
  }
  const std::tuple<const char*, Tensor (*)(const Tensor&), Fn1> unary[] = {
      {"neg", neg, [](double v) { return -v; }},
      {"abs", abs, [](double v) { return std::fabs(v); }},
      {"sign", sign, [](double v) { return v > 0   ? 1.0
                                           : v < 0 ? -1.0
                                                   : 0.0; }},
      {"square", square, [](double v) { return v * v; }},
      {"relu", relu, [](double v) { return std::max(v, 0.0); }},
      {"floor", floor, [](double v) { return v; }}};
  for (const auto& [op, f, g] : unary) {
    l.samples.push_back({.op = op,
                         .variant = "integers",
                         .inputs = {a},
                         .call = [f = f](const Tensors& x) -> Tensors { return {f(x[0])}; },
                         .reference = [g = g](const Tensors& x) -> Tensors { return {map1(x[0], g).to(int64)}; },
                         .order = 0});
  }
  l.samples.push_back({.op = "div",
                       .variant = "integers give float32",
                       .inputs = {a, b},
                       .call = [](const Tensors& x) -> Tensors { return {div(x[0], x[1])}; },
                       .reference = [](const Tensors& x) -> Tensors {
                         return {map2(x[0], x[1], [](double p, double q) { return p / q; })};
                       },
                       .order = 0});
  l.samples.push_back(
      {.op = "exp",
       .variant = "integers give float32",
       .inputs = {a},
       .call = [](const Tensors& x) -> Tensors { return {exp(x[0])}; },
       .reference = [](const Tensors& x) -> Tensors { return {map1(x[0], [](double v) { return std::exp(v); })}; },
       .order = 0});
}

// --- choice --------------------------------------------------------------------------------------------------------

Tensor choose(const Tensor& c, const Tensor& a, const Tensor& b) {
  const Tensor kept = map2(c.to(float64), a, [](double m, double v) { return m != 0 ? v : 0.0; });
  const Tensor other = map2(c.to(float64), b, [](double m, double v) { return m != 0 ? 0.0 : v; });
  return map2(kept, other, [](double p, double q) { return p + q; });
}

void add_choices(SampleList& l) {
  const auto mask = [](const Shape& s, uint64_t seed) { return gt(values(s, seed), 0); };
  const auto add = [&](const char* variant, Tensor c, Tensor a, Tensor b) {
    l.samples.push_back({.op = "where",
                         .variant = variant,
                         .inputs = {c, a, b},
                         .call = [](const Tensors& x) -> Tensors { return {where(x[0], x[1], x[2])}; },
                         .reference = [](const Tensors& x) -> Tensors { return {choose(x[0], x[1], x[2])}; }});
  };
  add("same shape", mask({3, 5}, 1), values({3, 5}, 2), values({3, 5}, 3));
  add("all broadcast", mask({3, 1, 1}, 1), values({4, 1}, 2), values({5}, 3));
  add("none", mask({0, 5}, 1), values({5}, 2), values({0, 1}, 3));
  l.samples.push_back({.op = "where",
                       .variant = "number or tensor",
                       .inputs = {mask({3, 5}, 4), values({5}, 2)},
                       .call = [](const Tensors& x) -> Tensors {
                         return {where(x[0], x[1], 2.5), where(x[0], 2.5, x[1])};
                       },
                       .reference = [](const Tensors& x) -> Tensors {
                         const Tensor c = scalar(2.5, {.dtype = float64});
                         return {choose(x[0], x[1], c), choose(x[0], c, x[1])};
                       }});
  const std::pair<const char*, Shape> masks[] = {{"same shape", {3, 5}}, {"broadcast mask", {5}}, {"one for all", {}}};
  for (const auto& [variant, shape] : masks) {
    l.samples.push_back({.op = "masked_fill",
                         .variant = variant,
                         .inputs = {values({3, 5}, 2), mask(shape, 5)},
                         .call = [](const Tensors& x) -> Tensors { return {masked_fill(x[0], x[1], -2.5)}; },
                         .reference = [](const Tensors& x) -> Tensors {
                           return {choose(x[1], scalar(-2.5, {.dtype = float64}), x[0])};
                         }});
  }
}

void add_addcmul(SampleList& l) {
  auto add = [&](const char* variant, const Tensor& a, const Tensor& b, const Tensor& c) {
    l.samples.push_back({.op = "addcmul",
                         .variant = variant,
                         .inputs = {a, b, c},
                         .call = [](const Tensors& x) -> Tensors { return {addcmul(x[0], x[1], x[2])}; },
                         .reference = [](const Tensors& x) -> Tensors {
                           const auto product = map2(x[1], x[2], [](double b, double c) { return b * c; });
                           return {map2(x[0], product, [](double a, double p) { return a + p; })};
                         }});
  };
  add("same shape", values({3, 5}, 1), values({3, 5}, 2), values({3, 5}, 3));
  add("heads", values({2, 3}, 1), values({4, 1, 3}, 2), values({2, 3}, 3));
  add("all broadcast", values({4, 1, 1}, 1), values({5}, 2), values({3, 1}, 3));
  add("none", values({0, 5}, 1), values({5}, 2), values({1}, 3));
}

void add_errors(SampleList& l) {
  l.errors.push_back({"addcmul", [] { addcmul(zeros({2}), zeros({2}, {.dtype = int64}), zeros({2})); },
                      "addcmul: expected floating tensors, got float32, int64 and float32"});
  l.errors.push_back({"add", [] { add(zeros({2, 3}), zeros({4})); }, "add: shapes do not broadcast: [2, 3] and [4]"});
  l.errors.push_back(
      {"where", [] { where(zeros({2}), zeros({2}), zeros({2})); }, "where: the condition must be bool, got float32"});
  l.errors.push_back({"masked_fill",
                      [] {
                        masked_fill(zeros({2}), zeros({3, 2}, {.dtype = boolean}), 0);
                      },
                      "masked_fill: mask [3, 2] does not broadcast to [2]"});
  l.errors.push_back({"masked_fill", [] { masked_fill(zeros({2}), zeros({2}), 0); },
                      "masked_fill: the mask must be bool, got float32"});
  l.errors.push_back({"neg", [] { neg(zeros({2}, {.dtype = boolean})); }, "neg: not for bool; use logical_not"});
  l.errors.push_back({"sub", [] { sub(zeros({2}, {.dtype = boolean}), zeros({2}, {.dtype = boolean})); },
                      "sub: not for two bools; use logical_xor"});
  l.errors.push_back({"lgamma", [] { lgamma(ones({2}, {.requires_grad = true})).backward(ones({2})); },
                      "lgamma: has no derivative here; detach its input"});
  l.errors.push_back({"exp", [] { exp(Tensor()); }, "undefined tensor: expected a tensor, got none"});
}

}  // namespace

void elementwise_samples(SampleList& l) {
  for (const Unary& u : unaries) add_unary(l, u);
  for (const Binary& b : binaries) add_binary(l, b);
  add_scalars(l);
  add_predicates(l);
  add_floor_divide(l);
  add_integers(l);
  add_choices(l);
  add_addcmul(l);
  add_errors(l);
}

}  // namespace weft::test
