#include <weft/autograd/autograd.h>
#include <weft/nn/xt/cache.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/create.h>
#include <weft/ops/index.h>
#include <weft/ops/shape.h>

namespace weft::xt {
namespace {

void check_no_gradient(const Tensor& rows) {
  check(!grad_enabled() || !rows.requires_grad(), "Cache: a cache is used without gradients (NoGrad)");
}

// The next n places of a fixed cache.
Tensor from(const Tensor& position, int64_t n) {
  return n == 1 ? position : position + places(0, n, position.device());
}

}  // namespace

void Growing::append(const Tensor& rows, int64_t dim, int64_t capacity) {
  check_no_gradient(rows);
  const int64_t m = rows.size(dim), needed = filled_ + m;
  if (position_.defined())
    return index_copy_(memory_.slice(dim, before_), dim, from(position_, m), rows.detach().to(memory_.dtype()));
  if (!memory_.defined() || needed > memory_.size(dim)) {
    Shape shape = rows.shape();
    shape[dim] = std::max({capacity, needed, memory_.defined() ? 2 * memory_.size(dim) : 0});
    Tensor larger = empty(shape, rows.dtype(), rows.device());
    if (filled_ > 0) larger.slice(dim, 0, filled_).copy_(get());
    memory_ = larger, dim_ = dim, grows_ = capacity > 0;
  }
  memory_.slice(dim, filled_, needed).copy_(rows.detach());
  filled_ = needed;
}

Tensor Growing::last() const {
  if (!position_.defined()) return memory_.slice(dim_, filled_ - 1, filled_);
  return index_select(memory_.slice(dim_, before_), dim_, position_ - 1);
}

void Growing::reorder(const Tensor& order, bool in_place) {
  if (filled_ == 0 || (in_place && !grows_)) return;
  const Tensor rows = index_select(get(), 0, order);
  if (in_place) {
    get().copy_(rows);
  } else {
    memory_ = Tensor();
    const int64_t capacity = std::exchange(filled_, 0);
    append(rows, dim_, grows_ ? capacity : 0);
  }
}

void Growing::fix(int64_t length, int64_t more, const Tensor& position) {
  if (filled_ == 0 || !grows_) return;
  Shape shape = memory_.shape();
  shape[dim_] = filled_ + more;
  Tensor exact = zeros(shape, {.dtype = memory_.dtype(), .device = memory_.device()});  // what is hidden is a number
  exact.slice(dim_, 0, filled_).copy_(get());
  memory_ = exact, position_ = position, before_ = filled_ - length;
}

LayerCache& Cache::layer(size_t i) {
  std::vector<LayerCache>& layers = passes_[pass_];
  while (layers.size() <= i) layers.emplace_back().capacity = capacity_;
  return layers[i];
}

void Cache::begin_pass(size_t pass, size_t of) {
  check(length_ == 0 || passes_.size() == of, "Cache: ", of, " passes after calls of ", passes_.size());
  passes_.resize(of), pass_ = pass;
}

void Cache::fix(int64_t more, Device device) {
  check(length_ > 0, "Cache: is fixed after the first call");
  check(!fixed(), "Cache: is fixed already");
  check(more >= 0, "Cache: cannot be fixed to ", more, " more places");
  const NoGrad guard;
  room_ = length_ + more;
  position_ = full({1}, length_, {.dtype = int64, .device = device});
  for (auto& layers : passes_)
    for (LayerCache& layer : layers)
      for (Growing* g : {&layer.k, &layer.v, &layer.forget_gates, &layer.forget_keys, &layer.masked})
        g->fix(length_, more, position_);
  key_mask.fix(length_, more, position_);
}

Tensor Cache::next(int64_t n, Device device, bool of_tokens) const {
  const int64_t ahead = of_tokens ? tokens - length_ : 0;
  if (!fixed()) return places(length_ + ahead, length_ + ahead + n, device);
  return ahead == 0 ? from(position_, n) : from(position_, n) + ahead;
}

void Cache::advance(int64_t places) {
  if (pass_ + 1 < passes_.size()) return;
  if (fixed())
    position_.copy_(position_ + places);
  else
    length_ += places;
}

void Cache::truncate(int64_t length) {
  check(!fixed(), "Cache: a fixed cache cannot be cut");
  check(length >= 0 && length <= length_, "Cache: cannot cut ", length_, " places to ", length);
  const int64_t rows = length_ - length;
  for (auto& layers : passes_)
    for (LayerCache& layer : layers) {
      check(layer.shifted.empty() || rows == 0, "Cache: cannot be cut with shift_tokens");
      check(layer.masked.size() == 0 || rows == 0, "Cache: cannot be cut with attn_selective");
      for (Growing* g : {&layer.k, &layer.v, &layer.forget_gates, &layer.forget_keys}) g->drop(rows);
    }
  key_mask.drop(rows);
  tokens -= rows, length_ = length;
}

void Cache::reorder(const Tensor& order) {
  const NoGrad guard;
  for (auto& layers : passes_)
    for (LayerCache& layer : layers) {
      for (Growing* g : {&layer.k, &layer.v, &layer.forget_gates, &layer.forget_keys, &layer.masked})
        g->reorder(order, fixed());
      for (auto& [who, rows] : layer.shifted) {
        const Tensor reordered = index_select(rows, rows.dim() - 3, order);
        fixed() ? void(rows.copy_(reordered)) : void(rows = reordered);
      }
    }
  key_mask.reorder(order, fixed());
  for (Tensor* start : {&seq_start_pos, &token_start}) {
    if (!start->defined()) continue;
    const Tensor reordered = index_select(*start, 0, order);
    fixed() ? void(start->copy_(reordered)) : void(*start = reordered);
  }
}

}  // namespace weft::xt
