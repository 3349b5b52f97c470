// Gated linear units: the walk (walk.cuh) with two inputs forward, and with three inputs and two or three results
// backward.
#include <weft/ops/glu_fn.h>
#include <weft/cuda/walk.cuh>

namespace weft::cuda {

namespace {

struct Glu {
  Gate gate;
  template <class C, int n>
  __device__ void operator()(C (&y)[n], C (&value)[n], C (&g)[n]) const {
    visit(gate, [&](auto f) {
#pragma unroll
      for (int i = 0; i < n; ++i) y[i] = value[i] * f(g[i]).value;
    });
  }
};
struct GluBackward {
  Gate gate;
  template <class C, int n>
  __device__ void operator()(C (&dvalue)[n], C (&dgate)[n], C (&value)[n], C (&g)[n], C (&dy)[n]) const {
    visit(gate, [&](auto f) {
#pragma unroll
      for (int i = 0; i < n; ++i) {
        const auto of_gate = f(g[i]);
        dvalue[i] = dy[i] * of_gate.value;
        dgate[i] = dy[i] * value[i] * of_gate.slope;
      }
    });
  }
};

// The same, and y once more.
struct GluAgain {
  Gate gate;
  template <class C, int n>
  __device__ void operator()(C (&dvalue)[n], C (&dgate)[n], C (&y)[n], C (&value)[n], C (&g)[n], C (&dy)[n]) const {
    GluBackward{gate}(dvalue, dgate, value, g, dy);
    Glu{gate}(y, value, g);
  }
};

template <class F>
void dispatch(std::initializer_list<DType> dtypes, F&& f) {
  if (*dtypes.begin() == float64) return f(Type<double>{}, Type<Any>{});
  dispatch_storage(dtypes, [&]<class S>(Type<S> s) { f(Type<float>{}, s); });
}

}  // namespace

void glu(Gate f, const Tensor& value, const Tensor& gate, Tensor& y) {
  DeviceScope scope(y);
  const Layout<3> l(y.shape(), {&y, &value, &gate});
  dispatch({y.dtype(), value.dtype(), gate.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    walk<C, kPackOf<S>, kPacks<S>>("glu", l, Stored<S>(), Stored<S, S>(), Glu{f});
  });
}

void glu_backward(Gate f, const Tensor& value, const Tensor& gate, const Tensor& dy, Tensor& dvalue, Tensor& dgate,
                  Tensor& y) {
  DeviceScope scope(dy);
  if (y.defined()) {
    const Layout<6> l(dy.shape(), {&dvalue, &dgate, &y, &value, &gate, &dy});
    return dispatch({y.dtype(), dvalue.dtype(), dy.dtype(), value.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
      walk<C, kPackOf<S>, 1>("glu", l, Stored<S, S, S>(), Stored<S, S, S>(), GluAgain{f});
    });
  }
  const Layout<5> l(dy.shape(), {&dvalue, &dgate, &value, &gate, &dy});
  dispatch({dvalue.dtype(), dy.dtype(), value.dtype()}, [&]<class C, class S>(Type<C>, Type<S>) {
    walk<C, kPackOf<S>, 1>("glu", l, Stored<S, S>(), Stored<S, S, S>(), GluBackward{f});
  });
}

}  // namespace weft::cuda
