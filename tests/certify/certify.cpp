// weft_certify [FILE]: walks every op sample on every device of this build, prints op × dtype × device × layout × order
// with the largest error measured, and writes the same table to FILE (docs/certificate.md unless given). Exit status 1
// where anything failed or is missing.
#include "support/walker.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <sstream>

using namespace weft;
using namespace weft::test;

namespace {

struct Cell {
  double error = -1;  // -1: nothing measured
  bool hole = false;
  void add(const Measured& m) {
    error = std::max(error, m.error);
    hole = hole || !m.problem.empty();
  }
};

// What is known about one op on one device. Layouts are those of float64 and float32 together, values and gradients.
struct Row {
  int samples = 0, order = 0;
  std::map<DType, Cell> values, gradients;
  Cell layouts, first, second;
};

std::string text(const Cell& c) {
  if (c.hole) return "HOLE";
  if (c.error < 0) return "–";
  if (c.error == 0) return "0";
  char s[32];
  std::snprintf(s, sizeof s, "%.0e", c.error);
  return s;
}
// A share of the tolerance of finite differences.
std::string share(const Cell& c) {
  if (c.hole) return "HOLE";
  if (c.error < 0) return "–";
  char s[32];
  std::snprintf(s, sizeof s, c.error < 0.001 ? "< 0.1 %%" : "%.1f %%", 100 * c.error);
  return s;
}

struct Report {
  std::map<std::string, Row> rows;
  std::vector<std::string> problems;
};

Report certify(Device device) {
  Report r;
  for (const Sample& s : all_samples().samples) {
    Row& row = r.rows[s.op];
    ++row.samples;
    row.order = std::max(row.order, s.order);
    for (const Measured& m : walk(s, device)) {
      if (!m.problem.empty()) r.problems.push_back(m.problem);
      if (m.layout != Layout::contiguous)
        row.layouts.add(m);
      else if (m.order == 0)
        row.values[m.dtype].add(m);
      else if (m.order == 2)
        (s.order == 2 ? row.second : row.first).add(m);
      else if (m.dtype == float64)
        row.first.add(m);
      else
        row.gradients[m.dtype].add(m);
    }
  }
  for (const PublicOp& op : public_ops(WEFT_SOURCE_DIR)) {
    if (!r.rows.count(op.name)) r.problems.push_back(op.name + " (" + op.header + "): no sample");
  }
  for (const ErrorSample& e : all_samples().errors) {
    std::string message = "(nothing was thrown)";
    try {
      e.call();
    } catch (const Error& error) {
      message = error.what();
    }
    if (message != e.message)
      r.problems.push_back(e.op + ": wrong use gives '" + message + "', not '" + e.message + "'");
  }
  return r;
}

void write(std::ostream& out, Device device, const Report& r) {
  int samples = 0;
  for (const auto& [op, row] : r.rows) samples += row.samples;
  out << "\n## " << concat(device) << "\n\n"
      << r.rows.size() << " ops, " << samples << " samples, " << all_samples().errors.size() << " wrong uses; "
      << (r.problems.empty() ? "no hole" : std::to_string(r.problems.size()) + " holes") << ".\n\n"
      << "| op | order | samples | float64 | float32 | bfloat16 | float16 | layouts | ∂ float32 | ∂ bfloat16 | ∂ "
         "float16 "
         "| 1st order | 2nd order |\n"
      << "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const auto& [op, row] : r.rows) {
    const auto cell = [](const std::map<DType, Cell>& m, DType d) {
      const auto it = m.find(d);
      return it == m.end() ? std::string("–") : text(it->second);
    };
    out << "| `" << op << "` | " << row.order << " | " << row.samples;
    for (DType d : {float64, float32, bfloat16, float16}) out << " | " << cell(row.values, d);
    out << " | " << text(row.layouts);
    for (DType d : {float32, bfloat16, float16}) out << " | " << cell(row.gradients, d);
    out << " | " << share(row.first) << " | " << share(row.second) << " |\n";
  }
  for (const std::string& p : r.problems) out << "\n- " << p;
  if (!r.problems.empty()) out << "\n";
}

std::vector<Device> devices() {
  std::vector<Device> out{Device::cpu()};
#ifdef WEFT_CUDA
  out.push_back(Device::cuda());
#endif
  return out;
}

constexpr const char* kHeader = R"(# Certificate

Written by `weft_certify`, which takes every sample of every public op (`tests/samples/`) through the checks of
`tests/support/walker.cpp`; the test suite makes the same walk.

- **float64 … float16**: the largest relative norm error of the values, ‖y − y_ref‖ / ‖y_ref‖, against an independent
  float64 formula at inputs rounded to the dtype. Limits: 1e-9, 2e-5, 2e-2, 2e-2 (times a factor that a sample states
  with its reason). Integer and boolean results are compared exactly.
- **layouts**: the same for values and gradients in float64 and float32 when inputs and upstream gradients are
  transposed, strided, offset inside a larger block of NaN, or a mixture of these.
- **∂**: the error of the gradients in a dtype, against the float64 gradient at the same rounded inputs.
- **1st order, 2nd order**: the largest |analytic − numeric| of `gradcheck` and `gradgradcheck` in float64 (central
  differences, and ordinary against recorded sweeps) as a share of its tolerance, 1e-5 + 1e-3·|numeric|.
- Also checked for each: same bits with 1, 2 and 5 threads; inputs unchanged; dtypes and shapes; exact messages of
  wrong uses. **order** is how often the op is differentiable; an op of order 0 says `non_differentiable` where it is
  declared. A dash: does not apply (no floating input, or no gradient).
)";

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : std::string(WEFT_SOURCE_DIR) + "/docs/certificate.md";
  std::ostringstream out;
  out << kHeader;
  size_t holes = 0;
  try {
    for (const Device d : devices()) {
      const Report r = certify(d);
      holes += r.problems.size();
      write(out, d, r);
    }
  } catch (const std::exception& e) {
    std::cerr << "weft_certify: " << e.what() << "\n";
    return 2;
  }
  std::cout << out.str();
  std::ofstream file(path);
  file << out.str();
  if (!file.flush()) {
    std::cerr << "weft_certify: cannot write " << path << "\n";
    return 2;
  }
  return holes ? 1 : 0;
}
