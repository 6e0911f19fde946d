#include "io/timer_heap.h"

namespace kveil::io {

void TimerHeap::Place(size_t position, Timer* timer) {
  heap_[position] = timer;
  timer->position_ = position;
}

void TimerHeap::MoveUp(size_t position) {
  Timer* const moved = heap_[position];
  while (position > 0) {
    const size_t parent = (position - 1) / 2;
    if (heap_[parent]->time_ <= moved->time_) break;
    Place(position, heap_[parent]);
    position = parent;
  }
  Place(position, moved);
}

void TimerHeap::MoveDown(size_t position) {
  Timer* const moved = heap_[position];
  for (;;) {
    size_t child = 2 * position + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->time_ < heap_[child]->time_) ++child;
    if (moved->time_ <= heap_[child]->time_) break;
    Place(position, heap_[child]);
    position = child;
  }
  Place(position, moved);
}

void TimerHeap::Add(Timer& timer, Deadline time) {
  Remove(timer);
  timer.time_ = time;
  heap_.push_back(&timer);
  MoveUp(heap_.size() - 1);
}

void TimerHeap::Remove(Timer& timer) {
  const size_t position = timer.position_;
  if (position == Timer::kNowhere) return;
  timer.position_ = Timer::kNowhere;
  Timer* const last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  Place(position, last);
  MoveUp(position);
  MoveDown(last->position_);
}

Timer* TimerHeap::PopDue(Deadline now) {
  if (heap_.empty() || heap_.front()->time_ > now) return nullptr;
  Timer* const due = heap_.front();
  Remove(*due);
  return due;
}

}  // namespace kveil::io
