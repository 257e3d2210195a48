mod grids;
mod mx;
mod observers;
