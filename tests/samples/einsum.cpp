#include "support/sample.h"

#include <map>

namespace weft::test {

namespace {

// The definition, letter by letter: operands and result as strings of letters, sizes from the operands.
Tensor sum_of_products(const std::vector<std::string>& operands, const std::string& result, const Tensors& x) {
  std::map<char, int64_t> sizes;
  for (size_t k = 0; k < operands.size(); ++k) {
    for (size_t d = 0; d < operands[k].size(); ++d) {
      int64_t& n = sizes[operands[k][d]];
      n = std::max(n, x[k].size(static_cast<int64_t>(d)));
    }
  }
  std::string rest;
  Shape out, summed;
  for (char c : result) out.push_back(sizes[c]);
  for (const auto& [c, n] : sizes) {
    if (result.find(c) == result.npos) rest += c, summed.push_back(n);
  }
  std::map<char, int64_t> where;
  return make_at(out, [&](const Index& i) {
    for (size_t d = 0; d < result.size(); ++d) where[result[d]] = i[d];
    double total = 0;
    make_at(summed, [&](const Index& j) {
      for (size_t d = 0; d < rest.size(); ++d) where[rest[d]] = j[d];
      double p = 1;
      for (size_t k = 0; k < operands.size(); ++k) {
        Index index;
        for (char c : operands[k]) index.push_back(where[c]);
        p *= at(x[k], index);
      }
      total += p;
      return 0.0;
    });
    return total;
  });
}

void add(SampleList& l, const char* equation, const std::vector<Shape>& shapes,
         const std::vector<std::string>& operands, const std::string& result) {
  Tensors inputs;
  for (size_t k = 0; k < shapes.size(); ++k) inputs.push_back(values(shapes[k], k + 1));
  l.samples.push_back(
      {.op = "einsum",
       .variant = equation,
       .inputs = inputs,
       .call = [=](const Tensors& x) -> Tensors { return {einsum(equation, x)}; },
       .reference = [=](const Tensors& x) -> Tensors { return {sum_of_products(operands, result, x)}; }});
}

void error(SampleList& l, const char* equation, const Tensors& x, const char* message) {
  l.errors.push_back({"einsum", [=] { einsum(equation, x); }, message});
}

}  // namespace

void einsum_samples(SampleList& l) {
  add(l, "b i d, b j d -> b i j", {{2, 3, 5}, {2, 4, 5}}, {"bid", "bjd"}, "bij");
  add(l, "bhid,bhjd->bhij", {{2, 3, 4, 5}, {2, 3, 1, 5}}, {"bhid", "bhjd"}, "bhij");
  add(l, "b h i j, b j d -> b i h d", {{2, 3, 4, 5}, {2, 5, 3}}, {"bhij", "bjd"}, "bihd");  // one value head
  add(l, "ij,jk->ki", {{3, 4}, {4, 5}}, {"ij", "jk"}, "ki");
  add(l, "ij,kj", {{3, 4}, {5, 4}}, {"ij", "kj"}, "ik");
  add(l, "i,j->ij", {{3}, {4}}, {"i", "j"}, "ij");
  add(l, "bid,bd->bid", {{2, 3, 4}, {2, 4}}, {"bid", "bd"}, "bid");
  add(l, "bid,bid->bi", {{2, 3, 37}, {2, 3, 37}}, {"bid", "bid"}, "bi");
  add(l, "abc,cad->", {{2, 3, 4}, {4, 2, 5}}, {"abc", "cad"}, "");
  add(l, "abcd,cb->ad", {{2, 3, 4, 5}, {4, 3}}, {"abcd", "cb"}, "ad");
  add(l, "ii->i", {{4, 4}}, {"ii"}, "i");
  add(l, "ii", {{4, 4}}, {"ii"}, "");
  add(l, "iji->j", {{3, 2, 3}}, {"iji"}, "j");
  add(l, "iij,jjk->ik", {{3, 3, 4}, {4, 4, 2}}, {"iij", "jjk"}, "ik");
  add(l, "ij->", {{3, 4}}, {"ij"}, "");
  add(l, "ijk->kij", {{2, 3, 4}}, {"ijk"}, "kij");
  add(l, "cB", {{2, 3}}, {"cB"}, "Bc");
  add(l, "->", {{}}, {""}, "");
  add(l, ",a->a", {{}, {3}}, {"", "a"}, "a");
  add(l, "...id,...jd->...ij", {{2, 1, 3, 5}, {4, 2, 5}}, {"xyid", "yjd"}, "xyij");
  add(l, "i...,j...->...ij", {{3, 2}, {4, 2}}, {"ix", "jx"}, "xij");
  add(l, "a...,...b", {{3, 2}, {2, 4}}, {"ax", "xb"}, "xab");
  add(l, "...d->d", {{2, 3, 4}}, {"xyd"}, "d");
  add(l, "ij,ij->i", {{3, 1}, {1, 4}}, {"ij", "ij"}, "i");  // sizes of 1 broadcast
  add(l, "a b, b c, c d -> a d", {{2, 9}, {9, 3}, {3, 4}}, {"ab", "bc", "cd"}, "ad");
  add(l, "ab,bc,cd,da,ac->", {{2, 3}, {3, 4}, {4, 2}, {2, 2}, {2, 4}}, {"ab", "bc", "cd", "da", "ac"}, "");
  add(l, "i,i,i,ij->j", {{3}, {3}, {3}, {3, 2}}, {"i", "i", "i", "ij"}, "j");
  add(l, "a,b,c,d,e,f,g,h,i->ai", {{2}, {2}, {2}, {1}, {2}, {1}, {2}, {2}, {3}},
      {"a", "b", "c", "d", "e", "f", "g", "h", "i"}, "ai");
  add(l, "bi,bo->bio", {{0, 3}, {0, 2}}, {"bi", "bo"}, "bio");
  add(l, "ik,kj->ij", {{2, 0}, {0, 3}}, {"ik", "kj"}, "ij");

  const Tensor m = zeros({2, 3});
  error(l, "ij,jk", {m}, "einsum: 2 operands named, 1 given, in 'ij,jk'");
  error(l, "ijk->i", {m}, "einsum: operand 0 has shape [2, 3], which is not 3 dimensions, in 'ijk->i'");
  error(l, "...ijk", {m}, "einsum: operand 0 has shape [2, 3], which is not at least 3 dimensions, in '...ijk'");
  error(l, "ij,jk->ik", {m, m}, "einsum: 'j' has size 3 in operand 0 and 2 in operand 1 in 'ij,jk->ik'");
  error(l, "ii->i", {m}, "einsum: 'i' has sizes 2 and 3 in operand 0 in 'ii->i'");
  error(l, "ij->ik", {m}, "einsum: 'k' of the result is in no operand in 'ij->ik'");
  error(l, "ij->ii", {m}, "einsum: 'i' is twice in the result in 'ij->ii'");
  error(l, "i1->i", {m}, "einsum: unexpected '1' at position 1 in 'i1->i'");
  error(l, "ij->i->j", {m}, "einsum: unexpected '-' at position 5 in 'ij->i->j'");
  error(l, "......", {m}, "einsum: a second '...' at position 3 in '......'");
  error(l, "i", {}, "einsum: expected at least one operand");
  error(l, "i,i", {zeros({2}), zeros({2}, {.dtype = float64})}, "einsum: dtypes differ: float32 and float64");
  error(l, "i->", {zeros({2}, {.dtype = boolean})}, "einsum: not for bool");
}

}  // namespace weft::test
