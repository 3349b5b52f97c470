#include <weft/autograd/autograd.h>
#include <weft/nn/xt/cache.h>
#include <weft/ops/index.h>

namespace weft::xt {

void Growing::append(const Tensor& rows, int64_t dim, int64_t capacity) {
  check(!grad_enabled() || !rows.requires_grad(), "Cache: a cache is used without gradients (NoGrad)");
  const int64_t m = rows.size(dim), needed = filled_ + m;
  if (!memory_.defined() || needed > memory_.size(dim)) {
    Shape shape = rows.shape();
    shape[dim] = std::max({capacity, needed, memory_.defined() ? 2 * memory_.size(dim) : 0});
    Tensor larger = empty(shape, rows.dtype(), rows.device());
    if (filled_ > 0) larger.slice(dim, 0, filled_).copy_(get());
    memory_ = larger, dim_ = dim;
  }
  memory_.slice(dim, filled_, needed).copy_(rows.detach());
  filled_ = needed;
}

void Growing::reorder(const Tensor& order) {
  if (filled_ == 0) return;
  const Tensor rows = index_select(get(), 0, order);
  memory_ = Tensor();
  const int64_t capacity = std::exchange(filled_, 0);
  append(rows, dim_, capacity);
}

LayerCache& Cache::layer(size_t i) {
  while (layers_.size() <= i) layers_.emplace_back().capacity = capacity_;
  return layers_[i];
}

void Cache::truncate(int64_t length) {
  check(length >= 0 && length <= length_, "Cache: cannot cut ", length_, " places to ", length);
  for (LayerCache& layer : layers_) {
    check(layer.shifted.empty() || length == length_, "Cache: cannot be cut with shift_tokens");
    if (layer.k.size() == memories + length_) layer.k.truncate(memories + length), layer.v.truncate(memories + length);
    layer.forget_gates.truncate(length), layer.forget_keys.truncate(length);
  }
  key_mask.truncate(memories + length);
  tokens -= length_ - length, length_ = length;
}

void Cache::reorder(const Tensor& order) {
  const NoGrad guard;
  for (LayerCache& layer : layers_) {
    for (Growing* g : {&layer.k, &layer.v, &layer.forget_gates, &layer.forget_keys}) g->reorder(order);
    for (auto& [who, rows] : layer.shifted) rows = index_select(rows, rows.dim() - 3, order);
  }
  key_mask.reorder(order);
  for (Tensor* start : {&seq_start_pos, &token_start})
    if (start->defined()) *start = index_select(*start, 0, order);
}

}  // namespace weft::xt
