#include "encoders/log_mel.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace gemlet {
namespace {

constexpr float pre_emphasis = 0.97F;
constexpr double floor_magnitude = 1e-5;
constexpr double lowest_hz = 125;
constexpr double highest_hz = 7600;

double mel_of(double hz) { return 2595.0 * std::log10(1.0 + hz / 700.0); }
double hz_of(double mel) { return 700.0 * (std::pow(10.0, mel / 2595.0) - 1.0); }

}  // namespace

LogMel::LogMel(std::size_t bins) : filters_(bins) {
  constexpr double pi = std::numbers::pi;
  for (std::size_t i = 0; i < frame_samples; ++i) {
    const double angle = 2 * pi * static_cast<double>(i) / static_cast<double>(frame_samples);
    window_[i] = static_cast<float>(0.5 * (1 - std::cos(angle)));
  }
  for (std::size_t k = 0; k < half; ++k) {
    roots_[k] = std::polar(1.0, -2 * pi * static_cast<double>(k) / static_cast<double>(transform));
  }
  constexpr int bits = std::countr_zero(half);
  for (std::size_t i = 0; i < half; ++i) {
    reversed_[i] = 0;
    for (int b = 0; b < bits; ++b) reversed_[i] |= (i >> b & 1) << (bits - 1 - b);
  }

  const double low = mel_of(lowest_hz);
  const double step = (mel_of(highest_hz) - low) / static_cast<double>(bins + 1);
  const auto corner = [&](std::size_t i) { return hz_of(low + step * static_cast<double>(i)); };
  constexpr double bin_hz = static_cast<double>(sample_rate) / static_cast<double>(transform);
  for (std::size_t m = 0; m < bins; ++m) {
    const double left = corner(m), centre = corner(m + 1), right = corner(m + 2);
    Filter& filter = filters_[m];
    for (std::size_t k = 0; k <= half; ++k) {
      const double hz = bin_hz * static_cast<double>(k);
      const double weight = std::min((hz - left) / (centre - left), (right - hz) / (right - centre));
      if (weight <= 0) continue;
      if (filter.weights.empty()) filter.first = k;
      filter.weights.push_back(weight);
    }
  }
}

void LogMel::transform_half(std::array<Complex, half>& x) const {
  for (std::size_t width = 1; width < half; width *= 2) {
    for (std::size_t begin = 0; begin < half; begin += 2 * width) {
      for (std::size_t k = 0; k < width; ++k) {
        Complex& a = x[begin + k];
        Complex& b = x[begin + k + width];
        const Complex root = roots_[k * (half / width)];
        // Written out: the operator looks for infinities.
        const Complex turned{b.real() * root.real() - b.imag() * root.imag(),
                             b.real() * root.imag() + b.imag() * root.real()};
        b = a - turned;
        a += turned;
      }
    }
  }
}

void LogMel::frame(const float* samples, float* out) const {
  const auto windowed = [&](std::size_t i) {
    if (i >= frame_samples) return 0.0;
    const float emphasised = i == 0 ? samples[0] * (1.0F - pre_emphasis) : samples[i] - pre_emphasis * samples[i - 1];
    return static_cast<double>(emphasised * window_[i]);
  };
  // The transform of 1024 real numbers by one of 512 complex ones: even numbers are real parts, odd ones imaginary.
  std::array<Complex, half> x;
  for (std::size_t i = 0; i < half; ++i) x[reversed_[i]] = {windowed(2 * i), windowed(2 * i + 1)};
  transform_half(x);
  std::array<double, half + 1> magnitudes;
  for (std::size_t k = 0; k <= half; ++k) {
    const Complex a = x[k % half];
    const Complex b = std::conj(x[(half - k) % half]);
    const Complex even = (a + b) * 0.5;
    const Complex odd = (a - b) * 0.5;  // times i
    const Complex root = k == half ? Complex{-1, 0} : roots_[k];
    const double real = even.real() + odd.imag() * root.real() + odd.real() * root.imag();
    const double imaginary = even.imag() + odd.imag() * root.imag() - odd.real() * root.real();
    magnitudes[k] = std::sqrt(real * real + imaginary * imaginary);
  }
  for (std::size_t m = 0; m < filters_.size(); ++m) {
    const Filter& filter = filters_[m];
    double sum = 0;
    for (std::size_t i = 0; i < filter.weights.size(); ++i) sum += filter.weights[i] * magnitudes[filter.first + i];
    out[m] = static_cast<float>(std::log(std::max(sum, floor_magnitude)));
  }
}

}  // namespace gemlet
