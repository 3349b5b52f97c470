// Real transforms and long convolutions by cpu/fft.h, in float (double for float64).
#include <weft/cpu/compute.h>
#include <weft/cpu/fft.h>

namespace weft::cpu {

namespace {

template <class T>
T* pointer(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

template <class T>
LongConvolution<T> arguments(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d) {
  return {u.size(0),     u.size(1), u.size(2),         pointer<T>(u),
          pointer<T>(k), k.size(1), pointer<T>(k_rev), k_rev.defined() ? k_rev.size(1) : 0,
          pointer<T>(d)};
}

// out ← a · b
template <class T>
void multiply(const Tensor& a, const Tensor& b, Tensor& out) {
  map<T, T>([](T p, T q) { return p * q; }, a, b, out);
}

}  // namespace

void rfft(const Tensor& x, int64_t n, double scale, Tensor& y) {
  in_float(x.dtype(), [&]<class T>(Type<T>) {
    const Tensor in = compute_copy<T>(x), out = compute_output<T>(y);
    rfft_rows(in.data<T>(), in.size(0), in.size(1), in.size(1), n, scale, out.data<T>());
    write_back<T>(out, y);
  });
}

void irfft(const Tensor& x, int64_t n, double scale, Tensor& y) {
  in_float(x.dtype(), [&]<class T>(Type<T>) {
    const Tensor in = compute_copy<T>(x), out = compute_output<T>(y);
    irfft_rows(in.data<T>(), in.size(0), in.size(1), 2 * in.size(1), n, scale, out.data<T>());
    write_back<T>(out, y);
  });
}

void fft_conv(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, const Tensor& gate, Tensor& y) {
  in_float(u.dtype(), [&]<class T>(Type<T>) {
    const Tensor cu = compute_copy<T>(u), ck = compute_copy<T>(k), cr = compute_copy<T>(k_rev), cd = compute_copy<T>(d);
    Tensor out = compute_output<T>(y);
    convolve_rows(arguments<T>(cu, ck, cr, cd), out.data<T>());
    if (gate.defined()) multiply<T>(out, gate, out);
    write_back<T>(out, y);
  });
}

// With a gate the convolution's own gradient is dy · gate, and the gate's is dy · (the convolution), computed again.
void fft_conv_backward(const Tensor& u, const Tensor& k, const Tensor& k_rev, const Tensor& d, const Tensor& gate,
                       const Tensor& dy, Tensor& du, Tensor& dk, Tensor& dk_rev, Tensor& dd, Tensor& dgate) {
  in_float(u.dtype(), [&]<class T>(Type<T>) {
    const Tensor cu = compute_copy<T>(u), ck = compute_copy<T>(k), cr = compute_copy<T>(k_rev), cd = compute_copy<T>(d);
    const LongConvolution<T> conv = arguments<T>(cu, ck, cr, cd);
    Tensor g = compute_copy<T>(dy);
    if (dgate.defined()) {
      Tensor out = compute_output<T>(dgate);
      convolve_rows(conv, out.data<T>());
      multiply<T>(out, g, out);
      write_back<T>(out, dgate);
    }
    if (gate.defined()) {
      Tensor gated = empty(g.shape(), g.dtype(), g.device());
      multiply<T>(g, gate, gated);
      g = gated;
    }
    const Tensor gu = compute_output<T>(du), gk = compute_output<T>(dk), gr = compute_output<T>(dk_rev),
                 gd = compute_output<T>(dd);
    convolve_rows_backward(conv, g.data<T>(), pointer<T>(gu), pointer<T>(gk), pointer<T>(gr), pointer<T>(gd));
    write_back<T>(gu, du);
    write_back<T>(gk, dk);
    write_back<T>(gr, dk_rev);
    write_back<T>(gd, dd);
  });
}

}  // namespace weft::cpu
