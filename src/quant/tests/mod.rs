mod grids;
mod mx;
mod observers;
mod policies;
