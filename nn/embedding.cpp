#include <weft/autograd/autograd.h>
#include <weft/nn/embedding.h>
#include <weft/nn/init.h>

namespace weft {

Embedding::Embedding(int64_t num, int64_t dim, std::optional<int64_t> padding_idx) : padding_idx_(padding_idx) {
  check(num >= 0 && dim >= 0, "Embedding: sizes must not be negative, got ", num, " and ", dim);
  check(!padding_idx || (*padding_idx >= -num && *padding_idx < num), "Embedding: padding_idx ",
        padding_idx.value_or(0), " is out of range for ", num, " embeddings");
  weight = register_parameter("weight", empty({num, dim}));
  init::normal_(weight);
  if (padding_idx_) {
    if (*padding_idx_ < 0) *padding_idx_ += num;
    init::zeros_(weight.detach().select(0, *padding_idx_));
  }
}

std::string Embedding::extra_repr() const {
  return concat(weight.size(0), ", ", weight.size(1), padding_idx_ ? concat(", padding_idx=", *padding_idx_) : "");
}

}  // namespace weft
