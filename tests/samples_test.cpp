// Walks every op sample. DEVICE=cuda:0 walks them on that device. SAMPLES=matmul walks one op's alone.
#include "support/message_of.h"
#include "support/walker.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

using namespace weft;
using namespace weft::test;

TEST_CASE("samples: every op's values, gradients, dtypes and layouts") {
  const Device device = test_device();
  const char* only = std::getenv("SAMPLES");
  for (const Sample& s : all_samples().samples) {
    if (only && s.op != only) continue;
    int problems = 0;
    for (const Measured& m : walk(s, device)) {
      if (!m.problem.empty() && ++problems <= 3) FAIL_CHECK(m.problem);
    }
    CHECK(problems == 0);
  }
}

TEST_CASE("samples: wrong uses give their exact message") {
  const DefaultDevice host(Device::cpu());  // where the samples' tensors lie
  for (const ErrorSample& e : all_samples().errors) {
    CAPTURE(e.op);
    CHECK(message_of(e.call) == e.message);
  }
}

TEST_CASE("samples: every public op has samples") {
  std::map<std::string, int> order;  // the highest declared
  for (const Sample& s : all_samples().samples) {
    const auto [it, fresh] = order.emplace(s.op, s.order);
    if (!fresh) it->second = std::max(it->second, s.order);
  }
  std::set<std::string> known;
  std::string missing;
  for (const PublicOp& op : public_ops(WEFT_SOURCE_DIR)) {
    known.insert(op.name);
    if (!order.count(op.name)) missing += "\n  " + op.header + ": " + op.name;
  }
  CHECK_MESSAGE(missing.empty(), "public ops without a sample:", missing);
  CHECK(known.size() > 100);  // the headers were found and read
  for (const auto& [op, o] : order) CHECK_MESSAGE(known.count(op), "a sample names ", op, ", which no header declares");
}

TEST_CASE("samples: an op without a gradient says so in its declaration") {
  std::map<std::string, bool> declared;
  for (const PublicOp& op : public_ops(WEFT_SOURCE_DIR)) declared[op.name] = op.declared_non_differentiable;
  std::map<std::string, bool> differentiable;
  for (const Sample& s : all_samples().samples) {
    const bool has_floats =
        std::any_of(s.inputs.begin(), s.inputs.end(), [](const Tensor& t) { return t.defined() && t.is_floating(); });
    if (has_floats) differentiable[s.op] |= s.order > 0;
  }
  for (const auto& [op, on] : differentiable)
    CHECK_MESSAGE((on || declared[op]), op, " has no gradient and its declaration lacks `non_differentiable`");
}
